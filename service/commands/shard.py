"""`appshelf shard`: the imported data encoded once and cut into shards, for a training on several processes."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer

from service.commands.session import Refusal, refusals, settings_of
from service.commands.terminal import AsJson, print_json, say, working


def shard(
    context: typer.Context,
    *,
    count: Annotated[int, typer.Option(min=1, help="Shards; a multiple of the processes that are to read them.")] = 16,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of which row goes into which shard.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Fit the transform to the imported data, and cut it into shards of Parquet that the ranks of a training share out.

    They are for `torchrun --nproc-per-node 2 -m service.distributed`, which trains on what was imported then.
    """
    from model.data.dataset import read
    from model.sharded.shards import write_shards
    from model.training import check_labels
    from service.home import Home

    home = Home(settings_of(context).home)
    with refusals(), unsharded():
        dataset = read(home.data)
        check_labels(dataset)
        with working(f"cutting the data into {count} shards"):
            shards = write_shards(dataset, home.shards, count=count, seed=seed)
    rows = {split: sum(counts) for split, counts in shards.contents.rows.items()}
    if as_json:
        print_json({"folder": str(shards.folder), "count": count, "rows": rows})
    else:
        say(f"{rows['train']} rows to train on and {rows['stop']} to stop by, in {count} shards")
        typer.echo(shards.folder)


@contextmanager
def unsharded() -> Iterator[None]:
    """Turn what sharded training refuses into a Refusal."""
    from model.sharded.errors import ShardedRefusal

    try:
        yield
    except ShardedRefusal as error:
        raise Refusal(str(error)) from error
