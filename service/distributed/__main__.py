"""`torchrun --nproc-per-node 2 -m service.distributed`: train on the home's shards, and print the new version."""

import os
import sys

import typer

from service.commands.distributed import train_rank
from service.errors import ServiceError

REFUSED = 1


def main() -> None:
    """Exit codes: 0 done, 1 refused or lost another rank (one sentence that names this rank), 2 wrong usage."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command()(train_rank)
    try:
        app(obj=os.environ)
    except (ServiceError, OSError) as error:
        who = f"rank {os.environ['RANK']} of {os.environ.get('WORLD_SIZE', '?')}: " if "RANK" in os.environ else ""
        typer.echo(f"appshelf: {who}{error}", err=True)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main()
