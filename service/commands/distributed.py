"""What each rank runs under torchrun: a training together with the others."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.session import Refusal, refusals, settings_of
from service.commands.shard import unsharded
from service.commands.terminal import training_progress
from service.commands.training import options_of, train_config
from service.distributed.ranks import Ranks

if TYPE_CHECKING:
    from model.run import Progress


class How(StrEnum):
    """How tables are sharded."""

    AUTO = "auto"
    ROW = "row"
    TABLE = "table"


def train_rank(
    context: typer.Context,
    *,
    arch: Annotated[str | None, typer.Option(help="Architecture of the network.")] = None,
    recipe: Annotated[str | None, typer.Option(help="How it is trained.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs; it stops early.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed.")] = None,
    config: Annotated[Path | None, typer.Option(help="YAML file of the same and more; options go before it.")] = None,
    sharding: Annotated[
        How, typer.Option(help="Tables by row, by table, or as TorchRec's planner chooses.")
    ] = How.AUTO,
    memory_gib: Annotated[float, typer.Option(min=0.001, help="GiB that each rank has for its tables.")] = 16.0,
    every: Annotated[int, typer.Option(min=1, help="Steps from one checkpoint to the next.")] = 500,
    start: Annotated[str | None, typer.Option("--from", hidden=True)] = None,
) -> None:
    """Train a network on the home's shards together with the other ranks; a killed run goes on where it was."""
    from service.container import build
    from service.distributed.training import Wanted, train_ranks
    from service.home import Home

    ranks = Ranks.of(context.obj)
    if start is not None:
        raise Refusal(
            f"--from {start}: ranks learn from scratch, on shards that were encoded for that; leave it out, or learn "
            f"on from it on one machine with `appshelf train --from {start}`"
        )
    options = {"architecture": arch, "recipe": recipe, "epochs": epochs, "seed": seed}
    given = options_of(config) | {name: value for name, value in options.items() if value is not None}
    settings = settings_of(context)
    container = build(settings.patient()) if ranks.first else None
    wanted = Wanted(Home(settings.home), train_config(given), sharding.value, memory_gib, every)
    with refusals(), unsharded(), _progress(ranks) as progress:
        version = train_ranks(ranks, wanted, container=container, progress=progress)
    if version is not None:
        typer.echo(version)


@contextmanager
def _progress(ranks: Ranks) -> "Iterator[Callable[[Progress], None]]":
    """Where this rank reports to: one of them tells, the others do not."""
    if not ranks.first:
        yield lambda _: None
        return
    with training_progress() as progress:
        yield progress
