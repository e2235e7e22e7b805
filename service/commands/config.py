"""`appshelf config`: what is set, and whether it is allowed."""

from dataclasses import asdict

import typer

from service.commands.session import settings_of
from service.commands.terminal import AsJson, print_json, print_table
from service.keys import check_bind


def show(context: typer.Context, *, as_json: AsJson = False) -> None:
    """List every setting with its value, default and meaning; keys are masked."""
    rows = settings_of(context).describe()
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        cells = [(row.name, row.value, row.default, row.source, row.description) for row in rows]
        print_table(("setting", "value", "default", "from", "what it does"), cells)


def check(context: typer.Context) -> None:
    """Say whether a server would start with these settings; exit 1 and name the first that it would refuse."""
    settings = settings_of(context)
    check_bind(settings)
    if settings.redis_url or settings.bundles_url:
        from service.container import check_addresses  # here, since it imports torch, which takes seconds

        check_addresses(settings)
    typer.echo("the settings are allowed")
