"""The command line: one verb a line, and every refusal as one sentence."""

import os
import sys
from collections.abc import Callable, MutableMapping

import typer

from service.commands.bench import bench
from service.commands.compare import compare
from service.commands.config import check, show
from service.commands.data import draft, import_log
from service.commands.jobs import jobs, retrain, worker
from service.commands.log import bring_in, export, stats
from service.commands.serving import demo, serve
from service.commands.shard import shard
from service.commands.training import train
from service.commands.tune import tune
from service.commands.versions import gate, promote, rollback, versions
from service.errors import ServiceError

VERBS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "draft": draft,
    "import": import_log,
    "train": train,
    "shard": shard,
    "compare": compare,
    "tune": tune,
    "gate": gate,
    "promote": promote,
    "rollback": rollback,
    "versions": versions,
    "serve": serve,
    "retrain": retrain,
    "jobs": jobs,
    "worker": worker,
    "bench": bench,
}
REFUSED = 1


def application(environ: MutableMapping[str, str]) -> typer.Typer:
    """The commands; each reads its settings from `environ`."""
    app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)

    @app.callback()
    def appshelf(context: typer.Context) -> None:
        """Rank the apps on a store's shelf, and replace the network without anyone noticing.

        Everything lies in APPSHELF_HOME (./var unless set); `appshelf config show` lists all settings.
        """
        context.obj = environ

    for name, verb in VERBS.items():
        app.command(name)(verb)
    config = typer.Typer(no_args_is_help=True, help="Show or check the settings.")
    config.command("show")(show)
    config.command("check")(check)
    app.add_typer(config, name="config")
    log = typer.Typer(no_args_is_help=True, help="Export or import what was shown and what came back.")
    log.command("export")(export)
    log.command("import")(bring_in)
    log.command("stats")(stats)
    app.add_typer(log, name="log")
    return app


def main() -> None:
    """The console script. Exit codes: 0 done, 1 refused (one sentence on standard error), 2 wrong usage."""
    # torch's threads would spin while they wait for each other, which beside a server costs most of the processor.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        application(os.environ)()
    except (ServiceError, OSError) as error:  # the latter says which file and why, as on a full disk
        typer.echo(f"appshelf: {error}", err=True)
        sys.exit(REFUSED)
