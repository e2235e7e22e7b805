"""What a verb prints: results on standard output, as text or JSON; how it goes on standard error."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from model.report import Check
    from model.training import Progress as Step

WIDTH_OF_A_FILE = 300
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def print_json(value: object) -> None:
    """A result for a program to read."""
    typer.echo(json.dumps(value, indent=2))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A result for a person to read; where it goes to a file, a row is a line."""
    console = Console(markup=False, highlight=False, width=None if Console().is_terminal else WIDTH_OF_A_FILE)
    table = Table(*columns, box=None, pad_edge=False)
    table.columns[0].no_wrap = True
    for row in rows:
        table.add_row(*("" if cell is None else str(cell) for cell in row))
    console.print(table)


def say(line: str) -> None:
    """How it goes."""
    typer.echo(line, err=True)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Say what takes a while: beside a spinner on a terminal, as a line elsewhere."""
    console = Console(stderr=True, markup=False)
    if console.is_terminal:
        with console.status(what):
            yield
    else:
        say(what)
        yield


def print_checks(checks: "Sequence[Check]") -> None:
    """A gate report's lines."""
    rows = [(check.outcome, check.name, check.observed, check.limit, check.detail) for check in checks]
    print_table(("outcome", "check", "observed", "limit", "detail"), rows)


@contextmanager
def training_progress() -> "Iterator[Callable[[Step], None]]":
    """Where training reports to: a bar on a terminal, elsewhere a line an epoch."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _say_epoch
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"), TimeRemainingColumn())
    with Progress(*columns, console=console) as bars:
        task = bars.add_task("training", state="")

        def show(step: "Step") -> None:
            description = f"epoch {step.epoch}/{step.epochs}"
            bars.update(task, description=description, total=step.steps, completed=step.step, state=_state(step))

        yield show


def _say_epoch(step: "Step") -> None:
    if step.step == step.steps:
        say(f"epoch {step.epoch}/{step.epochs}: {_state(step)}")


def _state(step: "Step") -> str:
    before = "" if step.auc is None else f", auc of the epoch before {step.auc:.4f}"
    return f"loss {step.loss:.4f}{before}"
