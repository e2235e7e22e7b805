"""What a verb prints: results on standard output, as text or JSON; how it goes on standard error."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from model.report import Check
    from model.training import Progress as Step
    from service.store.job_ports import Job

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
            bars.update(task, description=_epoch(step), total=step.steps, completed=step.step, state=_state(step))

        yield show


def _say_epoch(step: "Step") -> None:
    if step.step == step.steps:
        say(f"{_epoch(step)}: {_state(step)}")


def _epoch(step: "Step") -> str:
    of_which = "" if step.phase == "training" else f"{step.phase}, "
    return f"{of_which}epoch {step.epoch}/{step.epochs}"


def _state(step: "Step") -> str:
    if step.epoch == 0:
        return f"log loss {step.loss:.4f}, auc {step.auc or 0.0:.4f} as it stands before the first step"
    before = "" if step.auc is None else f", auc of the epoch before {step.auc:.4f}"
    return f"loss {step.loss:.4f}{before}"


@contextmanager
def following() -> "Iterator[Callable[[Job], None]]":
    """Where a job that somebody else does is told: its lines, and the step it is at, beside a spinner on a terminal."""
    console, told = Console(stderr=True, markup=False, highlight=False), Told()
    if not console.is_terminal:
        yield lambda job: told.tell(job, say)
        return
    with console.status("") as status:

        def show(job: "Job") -> None:
            status.update(f"{job.state}{at_step(job)}")
            told.tell(replace(job, progress={}), console.print)

        yield show


class Told:
    """What has been told of a job already."""

    def __init__(self) -> None:
        self._lines = 0
        self._step: object = None

    def tell(self, job: "Job", print_line: Callable[[str], object]) -> None:
        """Print the lines that are new, and the step where it is another one."""
        for line in job.lines[self._lines :]:
            print_line(line.text)
        self._lines = len(job.lines)
        if (step := job.progress.get("step")) not in (None, self._step):
            self._step = step
            print_line(f"{step} ...")


def at_step(job: "Job") -> str:
    """`, train, epoch 2/30`, or nothing before the first step."""
    progress = job.progress
    epoch = f", epoch {progress['epoch']}/{progress['epochs']}" if "epoch" in progress else ""
    return f", {progress['step']}{epoch}" if "step" in progress else ""


def moment(epoch_s: float) -> str:
    """A time for a person, in UTC."""
    return datetime.fromtimestamp(epoch_s, UTC).strftime("%Y-%m-%d %H:%M:%S")
