"""A comparison from its plan to its report: every run made or found, judged together, timed together."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl

from model.comparison import LEAST_DRAWN, Draws, Rows, Standing, gain, standings, units_of
from model.data.dataset import Dataset, read
from model.data.examples import rows_of, trained_pairs
from model.holdout import groups, slices
from model.metrics import auc
from model.report import Limits
from model.training import Progress
from service.comparing.latency import Served
from service.comparing.plan import Contestant, Plan
from service.comparing.report import Cost, Curve, Entry, Halves, Judged, Report, Slice
from service.comparing.run import machine
from service.comparing.runs import Run, RunFailed, Runs, Wanted, key_of
from service.errors import ServiceError
from service.release import software_version

SPLITS = ("train", "stop", "gate")


class NothingToJudge(ServiceError):
    """The data has no rows that contestants could be told apart on."""


class DataMoved(ServiceError):
    """The data was replaced while contestants were trained on it."""

    def __init__(self, data: Path) -> None:
        super().__init__(f"the data in {data} was replaced while it was compared on; run the comparison again")


@dataclass(frozen=True)
class Watch:
    """Who is told how it goes.

    run: a run begins, how many there are before it and in all; step: of that run; found: one that was made before;
    kept: the report so far; judging: all runs are done.
    """

    run: Callable[[Contestant, int, tuple[int, int]], None]
    step: Callable[[Progress], None]
    found: Callable[[Contestant, int], None]
    kept: Callable[[Report], None]
    judging: Callable[[], None]


@dataclass(frozen=True)
class Course:
    """What a comparison is made with. timed: bundles by contestant -> what serving each takes; draws: the bootstrap."""

    runs: Runs
    data: Path
    timed: Callable[[Mapping[str, Path]], Mapping[str, Served]]
    draws: Draws


@dataclass
class Results:
    """What has come of each contestant so far."""

    runs: dict[str, list[Run]] = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)


class Series:
    """One comparison. `run` makes it; `results` holds what it has so far, also after it was cut short."""

    def __init__(self, plan: Plan, dataset: Dataset, course: Course) -> None:
        self.plan, self.dataset, self.course = plan, dataset, course
        self.results = Results({one.name: [] for one in plan.contestants})
        self.fingerprint = dataset.fingerprint()
        self._rows, self._drawn = judged_rows(dataset)

    def run(self, watch: Watch) -> Report:
        """Every run made or found, and the whole report. Raises DataMoved; a contestant that fails is an entry."""
        total = self.plan.seeds * len(self.plan.contestants)
        for before, (contestant, place) in enumerate(self.plan.runs()):
            if contestant.name in self.results.failures:
                continue
            try:
                self.results.runs[contestant.name].append(self._run(contestant, place, watch, (before, total)))
            except RunFailed as error:
                self.results.failures[contestant.name] = f"seed {contestant.run(place).seed}: {error}"
            watch.kept(self.report(replace(self.course.draws, resamples=0)))
        watch.judging()
        report = self.report(self.course.draws, served=self._served(), finished=True)
        watch.kept(report)
        return report

    def _run(self, contestant: Contestant, place: int, watch: Watch, of: tuple[int, int]) -> Run:
        config, runs = contestant.run(place), self.course.runs
        key = key_of(config, data=self.fingerprint, software=software_version())
        if found := runs.found(key):
            watch.found(contestant, place)
            return found
        watch.run(contestant, place, of)
        made = runs.made(Wanted(config, self.course.data, key), progress=watch.step)
        if read(self.course.data).fingerprint() != self.fingerprint:
            runs.forget(key)
            raise DataMoved(self.course.data)
        return made

    def _served(self) -> Mapping[str, Served]:
        bundles = {name: runs[0].bundle for name, runs in self.results.runs.items() if runs}
        return self.course.timed(bundles) if bundles else {}

    def report(self, draws: Draws, *, served: Mapping[str, Served] | None = None, finished: bool = False) -> Report:
        """What is known now. Without resamples there are values and no intervals, which takes no time."""
        scores = {name: [run.scores for run in runs] for name, runs in self.results.runs.items() if runs}
        baseline = self.plan.baseline if self.plan.baseline in scores else next(iter(scores), self.plan.baseline)
        whole = standings(self._rows, scores, baseline=baseline, draws=draws) if scores else {}
        parts, shown = self._slices(scores, baseline, draws)
        entries = [self._entry(one, whole, parts) for one in self.plan.contestants]
        entries = [replace(one, served=(served or {}).get(one.name)) for one in entries]
        return Report(
            created_at=datetime.fromtimestamp(self.course.runs.clock(), UTC).isoformat(timespec="seconds"),
            software=software_version(),
            machine=machine(),
            judged=Judged(
                source=self.dataset.facts.source,
                data=self.fingerprint,
                counts={name: self.dataset.count(name) for name in SPLITS},
                drawn=f"{self._rows.units} {self._drawn}",
                resamples=draws.resamples if self._rows.units >= LEAST_DRAWN else 0,
                slices=tuple(shown),
            ),
            baseline=baseline,
            seeds=self.plan.seeds,
            finished=finished,
            entries=tuple(entries),
            halves=self._halves(scores, draws),
            notes=self._notes(baseline, served),
        )

    def _slices(
        self, scores: Mapping[str, Sequence[np.ndarray]], baseline: str, draws: Draws
    ) -> tuple[dict[str, dict[str, Standing]], list[Slice]]:
        """Contestant -> slice -> measures, and every slice that there is."""
        found: dict[str, dict[str, Standing]] = {name: {} for name in scores}
        shown = []
        for name, mask in self._rows.slices.items():
            part = self._rows.only(mask)
            shown.append(_slice(name, part))
            if not shown[-1].skipped and scores:
                only = {one: [score[mask] for score in mine] for one, mine in scores.items()}
                for one, standing in standings(part, only, baseline=baseline, draws=draws).items():
                    found[one][name] = standing
        return found, shown

    def _entry(self, one: Contestant, whole: Mapping[str, Standing], parts: Mapping[str, dict[str, Standing]]) -> Entry:
        runs, why = self.results.runs[one.name], self.results.failures.get(one.name, "")
        return Entry(
            name=one.name,
            architecture=one.config.architecture,
            recipe=one.config.recipe,
            config=one.config.model_dump(mode="json"),
            state="failed" if why else "done" if len(runs) == self.plan.seeds else "waiting",
            why=why,
            seeds=tuple(int(run.record.config["seed"]) for run in runs),
            standing=whole.get(one.name, {}),
            by_seed=tuple(auc(self._rows.label, run.scores) for run in runs) if len(runs) > 1 else (),
            slices=parts.get(one.name, {}),
            cost=_cost(runs),
            served=None,
            curves=tuple(_curve(run) for run in runs),
        )

    def _halves(self, scores: Mapping[str, Sequence[np.ndarray]], draws: Draws) -> Halves | None:
        names = self.plan.halves()
        if names is None or not set(names) <= set(scores):
            return None
        whole, wide, deep = names
        wide_adds, deep_adds = (gain(self._rows, scores, (whole, over), draws=draws) for over in (deep, wide))
        return Halves(whole, wide_adds, deep_adds) if wide_adds and deep_adds else None

    def _notes(self, baseline: str, served: Mapping[str, Served] | None) -> tuple[str, ...]:
        notes = []
        if self.plan.baseline in self.results.failures and baseline != self.plan.baseline:
            notes.append(f"the baseline {self.plan.baseline} has no run, so gains are over {baseline}")
        if self._rows.units < LEAST_DRAWN:
            notes.append(
                f"the gate split has {self._rows.units} {self._drawn}, too few to draw intervals from, which takes "
                f"{LEAST_DRAWN}: no gain is told from chance here"
            )
        missing = [name for name, runs in self.results.runs.items() if runs and name not in (served or {})]
        if served is not None and missing:
            notes.append(f"serving was not timed for {', '.join(missing)}")
        made = {name: {run.record.machine for run in runs} for name, runs in self.results.runs.items()}
        for name, others in made.items():
            if others := others - {machine()}:
                notes.append(f"{name} was trained on another machine, so its train s is that of {_and(others)}")
        return tuple(notes)


def judged_rows(dataset: Dataset) -> tuple[Rows, str]:
    """The gate split as arrays, and what is drawn of it. Raises NothingToJudge."""
    rows = rows_of(dataset, "gate")
    positives = int(rows["label"].sum())
    if not 0 < positives < len(rows):
        raise NothingToJudge(
            f"the gate split has {len(rows)} rows of which {positives} are positive; both classes are needed to "
            "compare, so import a log with more rows or over more time"
        )
    group = groups(dataset.schema, rows)
    unit, drawn = units_of(rows["user_id"].to_numpy(), group)
    label = rows["label"].cast(pl.Float64).to_numpy()
    return Rows(label, group, unit, slices(dataset.schema, trained_pairs(dataset), rows)), drawn


def _slice(name: str, part: Rows) -> Slice:
    limits, positives = Limits(), int(part.label.sum())
    scarce = min(positives, part.label.size - positives)
    few = part.label.size < limits.slice_minimum or scarce < limits.slice_class_minimum
    needed = f"{limits.slice_minimum} rows with {limits.slice_class_minimum} of either class are needed"
    return Slice(name, part.label.size, positives, needed if few else "")


def _and(names: set[str]) -> str:
    return " and of ".join(sorted(names))


def _cost(runs: Sequence[Run]) -> Cost | None:
    if not runs:
        return None
    records = [run.record for run in runs]
    train_s, epochs, peak = (
        float(np.mean([getattr(one, name) for one in records])) for name in ("train_s", "epochs", "peak_mib")
    )
    return Cost(records[0].parameters, records[0].weights_bytes, train_s, epochs, peak)


def _curve(run: Run) -> Curve:
    return Curve(int(run.record.config["seed"]), run.record.best_epoch, tuple(run.record.history))
