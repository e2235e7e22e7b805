"""`appshelf log`: what was shown and what came back, as Parquet files, and how much of it there is."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.session import opened
from service.commands.terminal import AsJson, print_json, print_table, working

if TYPE_CHECKING:
    from service.store.log_ports import EventLog

Folder = Annotated[Path, typer.Argument(help="The folder of the export.")]
Moment = Annotated[
    datetime | None, typer.Option(formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="A day or a time, in UTC.")
]


def export(
    context: typer.Context,
    folder: Folder,
    *,
    since: Moment = None,
    until: Moment = None,
    as_json: AsJson = False,
) -> None:
    """Write the log into a new folder as Parquet, all of it or what is from `--since` on and before `--until`."""
    from service.log_files import END_OF_TIME, Span, export_log

    span = Span(_seconds(since) if since else 0.0, _seconds(until) if until else END_OF_TIME)
    with opened(context) as container, working(f"exporting the log to {folder}"):
        counts = export_log(container.log, folder, span=span)
    if as_json:
        print_json({"impressions": counts.impressions, "events": counts.feedback})
    else:
        typer.echo(f"{counts.impressions} impressions and {counts.feedback} events are in {folder}")


def bring_in(context: typer.Context, folder: Folder, *, as_json: AsJson = False) -> None:
    """Put an export into the log; what is in it already stays as it is, so importing twice changes nothing."""
    from service.log_files import import_log

    with opened(context) as container, working(f"importing {folder}"):
        found = import_log(container.log, folder)
    if as_json:
        new = {"impressions": found.new.impressions, "events": found.new.feedback}
        read = {"impressions": found.read.impressions, "events": found.read.feedback}
        print_json({"read": read, "new": new, "refused": found.refused})
        return
    typer.echo(f"{found.new.impressions} of {found.read.impressions} impressions were new")
    typer.echo(f"{found.new.feedback} of {found.read.feedback} events were new")
    if found.refused:
        typer.echo(f"{found.refused} events were left out: their ids are those of other events here")


def stats(context: typer.Context, *, as_json: AsJson = False) -> None:
    """Say how much is in the log and since when."""
    with opened(context) as container:
        counts = container.log.counts()
        oldest = _oldest(container.log)
    if as_json:
        print_json({"impressions": counts.impressions, "events": counts.feedback, "oldest": oldest})
    else:
        print_table(("impressions", "events", "oldest impression"), [(counts.impressions, counts.feedback, oldest)])


def _seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=UTC).timestamp()


def _oldest(log: "EventLog") -> str | None:
    """When the oldest impression was, None where there is none."""
    from service.log_files import END_OF_TIME

    first = next(log.impressions(0.0, END_OF_TIME), None)
    return datetime.fromtimestamp(first.at, UTC).isoformat(timespec="seconds") if first else None
