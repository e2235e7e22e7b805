"""`appshelf bench`: how fast this machine scores, and the settings that suit it."""

from collections.abc import Sequence
from dataclasses import asdict
from os import getloadavg
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.session import settings_of
from service.commands.terminal import AsJson, print_json, print_table, say, working
from service.settings import variable

if TYPE_CHECKING:
    from service.calibration import Calibration, Cut, Layout

BUSY = 0.5
"""Load average over cores from which on figures are of what else runs as much as of the network."""


def bench(
    context: typer.Context,
    *,
    within_ms: Annotated[float, typer.Option(min=0.1, help="Milliseconds that one call of the network may take.")] = 10,
    seconds: Annotated[float, typer.Option(min=0.05, help="Seconds for each measurement.")] = 0.5,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print, and leave the settings as they are.")] = False,
    as_json: AsJson = False,
) -> None:
    """Time the live version on this machine, and set workers, threads and batch limit in the home's settings.json.

    Where nothing is live a network of the paper's size is timed. What the environment sets goes before the file.
    """
    from service.calibration import calibrate, usable_cores
    from service.settings_file import write_settings

    settings, cores = settings_of(context), usable_cores()
    if (load := getloadavg()[0]) > BUSY * cores:
        say(
            f"this machine is busy (load average {load:.1f}), so what follows says little of it; better when it is idle"
        )
    with working(f"timing on {cores} core(s)"):
        found = calibrate(context.obj, cores=cores, seconds=seconds)
    chosen = found.chosen(within_ms)
    file = None if dry_run else write_settings(settings.home, chosen.settings)
    if as_json:
        print_json({**asdict(found), "cores": cores, "chosen": chosen.settings, "file": str(file) if file else None})
        return
    print_found(found, chosen, within_ms=within_ms)
    if file:
        typer.echo(f"written to {file}; a server takes it on when it is started")
    for name in [variable(one) for one in chosen.settings if variable(one) in context.obj]:
        say(f"{name} is set in the environment, which goes before the file")


def print_found(found: "Calibration", chosen: "Layout", *, within_ms: float) -> None:
    """The two tables, and what follows from them."""
    typer.echo(f"{found.work}, precision {found.precision}, 200 candidates a request")
    typer.echo("\none request cut into batches, as in table 2 of Cheng et al. 2016")
    print_table(("batch", "threads", "ms", "the paper's ms"), _cut_rows(found.cuts))
    typer.echo("\nrequests scored together, all workers busy")
    columns = ("together", "threads", "workers", "ms", "p99 ms", "requests/s", "candidates/s")
    print_table(columns, _layout_rows(found.layouts))
    if chosen.ms <= within_ms:
        typer.echo(f"\nmost requests/s within {within_ms:g} ms a call, the shortest call of those as good:")
    else:
        typer.echo(f"\nno call takes at most {within_ms:g} ms; the shortest:")
    for name, value in chosen.settings.items():
        typer.echo(f"  {variable(name)}={value}")


def _cut_rows(cuts: "Sequence[Cut]") -> list[tuple[object, ...]]:
    return [(one.batch, one.threads, f"{one.ms:.2f}", one.paper_ms and f"{one.paper_ms:g}") for one in cuts]


def _layout_rows(layouts: "Sequence[Layout]") -> list[tuple[object, ...]]:
    return [
        (
            one.requests,
            one.threads,
            one.workers,
            f"{one.ms:.2f}",
            f"{one.p99_ms:.2f}",
            f"{one.per_s:,.0f}",
            f"{200 * one.per_s:,.0f}",
        )
        for one in layouts
    ]
