"""A search for a better training configuration, kept in the home and gone on with: `appshelf tune`.

Judged on the stop split alone. A trial's draws depend on the seed and on the trials before it and on nothing else, so
that a study that was cut short goes on as one that was not.
"""

import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import polars as pl
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy import URL
from sqlalchemy.exc import SQLAlchemyError

from model.data.dataset import Dataset
from model.data.stored import Rows, RowSource
from model.search_space import Axis, Choice, Real, config_of, space_of
from model.train_config import TrainConfig
from model.training import Progress, train
from model.zoo import UnknownArchitecture
from service.errors import HomeUnusable, ServiceError
from service.release import software_version

AT_MOST_LOST = 3
"""A trial that was killed so often is taken for one that ends its process, and is left out."""
PLACE, FAILED, STOPPED, SECONDS, IDENTITY = "place", "failed", "stopped", "seconds", "identity"
STARTUP, FIRST_CUT = 5, 2
"""Trials that are never ended early, and the epoch after which the others may be."""
SEEDS_APART, SEEDS = 1_000_003, 1 << 32


class StudyInUse(ServiceError):
    """Another process works on the study."""

    def __init__(self, file: Path) -> None:
        super().__init__(f"the study {file} is worked on by another process; wait for its end, or give --study a name")


class StudyOfOther(ServiceError):
    """The study was begun on something else."""

    def __init__(self, file: Path, differing: Mapping[str, tuple[object, object]]) -> None:
        told = "; ".join(f"{name} was {_short(was)} and is {_short(now)}" for name, (was, now) in differing.items())
        super().__init__(
            f"the study {file} was begun on something else ({told}), so its trials say nothing of this; "
            "give --study another name, or delete the file"
        )


class StudyUnreadable(ServiceError):
    """The study's file cannot be used."""

    def __init__(self, file: Path, reason: str) -> None:
        super().__init__(f"the study {file} cannot be read ({reason}); give --study another name, or delete the file")


@dataclass(frozen=True)
class Search:
    """What is searched. given: settled options, architecture, recipe and seed among them."""

    given: Mapping[str, Any]
    dataset: Dataset

    @property
    def space(self) -> dict[str, Axis]:
        """The axes by place."""
        return space_of(self.given)

    def identity(self) -> dict[str, Any]:
        """What a study is of, by name, as JSON values; a study of another is not gone on with."""
        told = {
            "release": software_version(),
            "schema": self.dataset.schema.fingerprint(),
            "data": self.dataset.fingerprint(),
            **{f"option {name}": value for name, value in self.given.items()},
            **{f"range of {place}": asdict(axis) for place, axis in self.space.items()},
        }
        plain: dict[str, Any] = json.loads(json.dumps(told))
        return plain


@dataclass(frozen=True)
class Tried:
    """A trial that has ended: what was tried and what came of it.

    state: complete, pruned (behind the others' median at the same epoch) or failed, and why; auc: on the stop split,
    None where it failed.
    """

    number: int
    state: str
    why: str
    auc: float | None
    config: dict[str, Any]
    seconds: float


@dataclass(frozen=True)
class Bounds:
    """When to end: when the study holds so many trials, or once so many seconds are over when a trial ends."""

    trials: int
    timeout_s: float | None
    clock: Callable[[], float]


@dataclass(frozen=True)
class WithoutGate:
    """The rows of a dataset but for the gate split, which no search may see."""

    rows: RowSource

    def scan(self) -> pl.LazyFrame:
        """The rows as a query."""
        return self.rows.scan().filter(pl.col("split") != "gate")

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What a query over `scan` gives."""
        return self.rows.collect(rows)


class Tuner:
    """A study that is open, and this process's alone until it is closed."""

    def __init__(self, study: optuna.Study, search: Search) -> None:
        self._study, self._search = study, search
        self._seen = replace(search.dataset, examples=WithoutGate(Rows.of(search.dataset)))  # type: ignore[arg-type]  # see Rows
        for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            study.tell(trial.number, state=TrialState.FAIL)  # its process was killed

    def tried(self) -> list[Tried]:
        """Every trial that has ended, in order; those that were cut short are not among them."""
        return [self._told(trial) for trial in self._ended()]

    def best(self) -> Tried | None:
        """The complete trial with the highest AUC, None before the first."""
        complete = [one for one in self.tried() if one.state == "complete" and one.auc is not None]
        return max(complete, key=lambda one: one.auc or 0.0, default=None)

    def run(self, bounds: Bounds, *, tell: Callable[[Tried], None], step: Callable[[Progress], None]) -> None:
        """Try until a bound is met. tell: called with each trial that ends; step: with its training's progress."""
        started = bounds.clock()
        while len(self._ended()) < bounds.trials:
            if bounds.timeout_s is not None and bounds.clock() >= started + bounds.timeout_s:
                return
            self._try(bounds.clock, step)
            tell(self.tried()[-1])

    def _try(self, clock: Callable[[], float], step: Callable[[Progress], None]) -> None:
        place = len(self._ended())
        seed = (self._search.given["seed"] * SEEDS_APART + place) % SEEDS
        self._study.sampler = optuna.samplers.TPESampler(seed=seed)
        trial, began = self._study.ask(), clock()
        trial.set_user_attr(PLACE, place)
        config = self._config({where: _drawn(trial, where, axis) for where, axis in self._search.space.items()})
        lost = self._lost(place)
        if lost >= AT_MOST_LOST:
            self._fail(trial, f"its process was killed {lost} times while it ran")
            return
        try:
            result = train(TrainConfig.model_validate(config), self._seen, progress=_Pruning(trial, step))
        except optuna.TrialPruned:
            trial.set_user_attr(SECONDS, clock() - began)
            self._study.tell(trial, state=TrialState.PRUNED)
        except (RuntimeError, MemoryError, UnknownArchitecture) as error:  # torch has no error of its own for memory
            self._fail(trial, " ".join(str(error).split()) or type(error).__name__)
        except KeyboardInterrupt:
            trial.set_user_attr(STOPPED, True)
            self._study.tell(trial, state=TrialState.FAIL)
            raise
        else:
            trial.set_user_attr(SECONDS, clock() - began)
            self._study.tell(trial, result.metrics["auc"])

    def _fail(self, trial: Trial, why: str) -> None:
        trial.set_user_attr(FAILED, why)
        self._study.tell(trial, state=TrialState.FAIL)

    def _ended(self) -> list[FrozenTrial]:
        """The trials that count: a failed one does where it failed by itself."""
        states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
        trials = self._study.get_trials(deepcopy=False, states=states)
        return [one for one in trials if one.state != TrialState.FAIL or FAILED in one.user_attrs]

    def _lost(self, place: int) -> int:
        """How often the trial of that place was killed."""
        failed = self._study.get_trials(deepcopy=False, states=(TrialState.FAIL,))
        mine = [one for one in failed if one.user_attrs.get(PLACE) == place]
        return sum(STOPPED not in one.user_attrs and FAILED not in one.user_attrs for one in mine)

    def _config(self, values: Mapping[str, Any]) -> dict[str, Any]:
        return config_of(self._search.given, values)

    def _told(self, trial: FrozenTrial) -> Tried:
        axes = self._search.space
        values = {where: _value(axes[where], drawn) for where, drawn in trial.params.items()}
        why = trial.user_attrs.get(FAILED, "")
        if trial.state == TrialState.PRUNED and trial.last_step is not None:
            why = f"behind the median after epoch {trial.last_step}"
        state = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}.get(trial.state, "failed")
        auc = None if state == "failed" else trial.value
        seconds = trial.user_attrs.get(SECONDS, 0.0)
        return Tried(trial.user_attrs[PLACE], state, why, auc, self._config(values), seconds)


class _Pruning:
    """A training's progress that ends one which falls behind: told the AUC of each epoch when the next begins."""

    def __init__(self, trial: Trial, step: Callable[[Progress], None]) -> None:
        self._trial, self._step, self._epoch = trial, step, 0

    def __call__(self, progress: Progress) -> None:
        """Raises TrialPruned."""
        self._step(progress)
        ended = progress.epoch - 1
        if progress.phase == "training" and progress.auc is not None and ended > self._epoch:
            self._epoch = ended
            self._trial.report(progress.auc, ended)
            if self._trial.should_prune():
                raise optuna.TrialPruned


@contextmanager
def opened(file: Path, search: Search) -> Iterator[Tuner]:
    """The study in that file, begun where there is none.

    Raises StudyInUse, StudyOfOther naming what differs, StudyUnreadable, HomeUnusable.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with _alone(file):
        try:
            pruner = optuna.pruners.MedianPruner(n_startup_trials=STARTUP, n_warmup_steps=FIRST_CUT)
            study = optuna.create_study(
                storage=optuna.storages.RDBStorage(URL.create("sqlite", database=str(file)).render_as_string()),
                study_name=file.stem,
                direction="maximize",
                pruner=pruner,
                load_if_exists=True,
            )
        except (SQLAlchemyError, RuntimeError) as error:
            raise StudyUnreadable(file, " ".join(str(error).split())) from error
        identity = search.identity()
        was = study.user_attrs.get(IDENTITY, identity)
        if was != identity and study.get_trials(deepcopy=False):
            names = [name for name in {**identity, **was} if was.get(name) != identity.get(name)]
            raise StudyOfOther(file, {name: (was.get(name), identity.get(name)) for name in names})
        study.set_user_attr(IDENTITY, identity)
        yield Tuner(study, search)


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Hold the study's lock, which the kernel drops with its process."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(file.with_suffix(".lock"), os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise HomeUnusable(file.parent, error.strerror or str(error)) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise StudyInUse(file) from None
    finally:
        os.close(descriptor)


def _drawn(trial: Trial, place: str, axis: Axis) -> Any:  # noqa: ANN401  # of the axis
    if isinstance(axis, Choice):
        return axis.values[trial.suggest_categorical(place, list(axis.values))]
    if isinstance(axis, Real):
        return trial.suggest_float(place, axis.low, axis.high, log=axis.log)
    return trial.suggest_int(place, axis.low, axis.high)


def _value(axis: Axis, drawn: Any) -> Any:  # noqa: ANN401  # of the axis
    return axis.values[drawn] if isinstance(axis, Choice) else drawn


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
