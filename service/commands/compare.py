"""`appshelf compare`: architectures and recipes trained and judged on one split, beside what each costs."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.session import Refusal, opened
from service.commands.terminal import AsJson, print_json, print_table, say, training_progress, working
from service.commands.training import options_of

if TYPE_CHECKING:
    from model.training import Progress
    from service.comparing.plan import Contestant, Plan
    from service.comparing.report import Report
    from service.comparing.runs import Runs
    from service.comparing.series import Series, Watch
    from service.container import Container

INTERRUPTED = 130


def compare(
    context: typer.Context,
    *,
    arch: Annotated[
        str | None,
        typer.Option(help="Architectures, comma between; wide and deep are the halves. All unless --config is given."),
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="YAML file of contestants, each a name with training options.")
    ] = None,
    recipe: Annotated[str | None, typer.Option(help="Recipe of all that --arch names.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Most epochs of each, also of an fnn's pretraining.")] = None,
    seeds: Annotated[
        int | None, typer.Option(help="Runs of each contestant, each with another seed. 1 unless set.")
    ] = None,
    baseline: Annotated[
        str | None, typer.Option(help="Contestant that gains are over: wide_deep, else the first, unless set.")
    ] = None,
    resamples: Annotated[int, typer.Option(min=20, help="Resamples behind each interval.")] = 200,
    keep: Annotated[
        str | None, typer.Option(help="Enter this contestant's net as a challenger when all is done.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the page and the JSON, instead of the home's.")] = None,
    as_json: AsJson = False,
) -> None:
    """Train contestants on the imported data, judge them on the gate split with intervals, and time each as served.

    What was trained before on the same data is not trained again, so a comparison that was cut short goes on where it
    was. Nothing is promoted. Exit code 1 where a contestant failed.
    """
    from model.data.dataset import read
    from model.training import check_labels
    from service.comparing.course import course_of, folder_of
    from service.comparing.plan import every, named, plan_of
    from service.comparing.series import Series

    if config and (arch or recipe):
        raise Refusal("--config names the contestants and their recipes, so it goes without --arch and --recipe")
    options = {"epochs": epochs, "seeds": seeds, "baseline": baseline}
    names = every() if arch is None else [name.strip() for name in arch.split(",")]
    told = options_of(config) if config else {"contestants": named(names, {"recipe": recipe} if recipe else {})}
    plan = plan_of(told, options)
    if keep and keep not in [one.name for one in plan.contestants]:
        raise Refusal(f"--keep {keep!r} is not among the contestants; there are {_names(plan)}")
    if out and out.exists() and not out.is_dir():
        raise Refusal(f"--out {out} is a file; give it a folder, which is made where there is none")
    with opened(context) as container:
        dataset = read(container.home.data)
        check_labels(dataset)
        series = Series(plan, dataset, course_of(container, resamples=resamples, say=say))
        folder = out or folder_of(container, plan, series.fingerprint)
        with _sweeping(series.course.runs, keep=container.settings.keep_runs):
            report = _run(series, folder, as_json=as_json)
            version = _kept(container, keep, series)
    _print(report, folder, version, as_json=as_json)
    if report.failed:
        raise typer.Exit(1)


@contextmanager
def _sweeping(runs: "Runs", *, keep: int) -> Iterator[None]:
    """While a comparison uses its runs; once it has come to its end, those that were used longest ago go."""
    began = runs.clock()
    with runs.in_use():
        yield
    if gone := runs.sweep(keep=keep, since=began):
        say(f"{gone} run(s) that were used longest ago were removed; APPSHELF_KEEP_RUNS says how many stay")


def _run(series: "Series", folder: Path, *, as_json: bool) -> "Report":
    """The whole comparison; a Ctrl-C leaves what is done and says how to go on."""
    from model.comparison import Draws
    from service.comparing.course import write_report

    write_report(series.report(Draws(0)), folder)  # before hours go into what is to lie there
    try:
        with Teller(folder).watching() as watch:
            return series.run(watch)
    except KeyboardInterrupt:
        report = series.report(Draws(0))
        write_report(report, folder)
        _print(report, folder, None, as_json=as_json)
        say("cut short; the same command goes on where this stopped")
        raise typer.Exit(INTERRUPTED) from None


class Teller:
    """Tells how a comparison goes: a line a run, and the run's own progress below it until the next."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._bar = folder, ExitStack()
        self._step: Callable[[Progress], None] = lambda step: None

    @contextmanager
    def watching(self) -> "Iterator[Watch]":
        """What the comparison calls; the report is written anew after each run."""
        from service.comparing.course import write_report
        from service.comparing.series import Watch

        with self._bar:
            yield Watch(
                run=self.run,
                step=lambda step: self._step(step),
                kept=lambda report: write_report(report, self._folder),
                found=lambda one, place: say(f"{one.name}, seed {one.run(place).seed}: trained before"),
                judging=self.judging,
            )

    def run(self, contestant: "Contestant", place: int, of: tuple[int, int]) -> None:
        """A run begins."""
        self._bar.close()
        say(f"{contestant.name}, seed {contestant.run(place).seed} (run {of[0] + 1} of {of[1]})")
        self._step = self._bar.enter_context(training_progress())

    def judging(self) -> None:
        """All runs are done."""
        self._bar.close()
        self._bar.enter_context(working("judging all on the same rows, and timing each as it would serve"))


def _print(report: "Report", folder: Path, version: str | None, *, as_json: bool) -> None:
    """The tables, and where the page lies."""
    from service.comparing.course import PAGE
    from service.comparing.report import COLUMNS, halves_line, judged_line, narrow, skipped_line, slice_table, table

    if as_json:
        print_json({**report.as_json(), "page": str(folder / PAGE), "kept": version})
        return
    typer.echo(judged_line(report))
    print_table(COLUMNS, [narrow(row) for row in table(report)])
    columns, rows = slice_table(report)
    if len(columns) > 1 and rows:
        typer.echo("\nAUC by slice (rows), and the gain over the baseline")
        print_table(columns, rows)
    if skipped := skipped_line(report):
        typer.echo(skipped)
    if report.halves:
        typer.echo(f"\n{halves_line(report.halves)}")
    for line in (*(f"{one.name} failed: {one.why}" for one in report.failed), *report.notes):
        say(line)
    typer.echo(f"\npage: {folder / PAGE}")
    if version:
        typer.echo(f"kept as {version}, a challenger until the gate has judged it")


def _kept(container: "Container", name: str | None, series: "Series") -> str | None:
    from service.comparing.course import keep

    return keep(container, name, series.results.runs[name]) if name else None


def _names(plan: "Plan") -> str:
    return ", ".join(one.name for one in plan.contestants)
