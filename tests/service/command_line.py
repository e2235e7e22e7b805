"""The command line as the tests use it: in process, with the environment as an argument."""

from collections.abc import Callable
from pathlib import Path

from typer.testing import CliRunner, Result

from service import cli
from service.errors import ServiceError

Run = Callable[..., Result]


def run_on(home: Path) -> Run:
    """Run the command line on a home; more variables by name."""

    def run(*arguments: str, **variables: str) -> Result:
        environ = {"APPSHELF_HOME": str(home), "APPSHELF_POLL_S": "0.02", "USER": "ann", **variables}
        return CliRunner().invoke(cli.application(environ), arguments)

    return run


def refusal(result: Result) -> str:
    """The sentence that a refused verb ends with."""
    assert isinstance(result.exception, ServiceError), result.output
    return str(result.exception)
