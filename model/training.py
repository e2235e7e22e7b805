"""Training: one logistic loss, every part of the net trained jointly, from the log to the weights of the best epoch."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from model.checkpoint import Snapshot
from model.data.dataset import Dataset
from model.data.encoded import Encoded, Encoder
from model.data.examples import encode
from model.data.stored_past import keep_past
from model.device import CPU, chosen, move
from model.fitting import fit
from model.growth import grow
from model.learner import POSITION, Learner, SeenCounts, seen_counts
from model.memory import keep_freed_memory
from model.position import PositionBias
from model.precision import training_dtype
from model.pretraining import pretrain
from model.run import Kept, Progress, Run, Watch, judged, probabilities
from model.run_state import restore, threads_of
from model.schema import NegativeRule
from model.scorer import Scorer
from model.statistics import statistics_of
from model.train_config import TrainConfig, TrainingFailed
from model.transforms import Transform
from model.warmstart import Transferred, WarmStart, transfer
from model.workspace import Workspace
from model.zoo import ARCHITECTURES, Net, build, check_params

__all__ = [
    "Progress",
    "TrainConfig",
    "TrainResult",
    "Training",
    "TrainingFailed",
    "Workspace",
    "check_labels",
    "predict",
    "probabilities",
    "train",
]

TRAINING, PRETRAINING = "training", "pretraining"
POSITIONS_AT_ONCE = 1 << 20
USED_UP = (
    "where its users have used nearly every app, list more apps, or write `rule: uniform` for the schema's `negatives`"
)


@dataclass(frozen=True)
class TrainResult:
    """A trained net with what a bundle needs of the run.

    history: a record an epoch, that of a warm start before its first step among them as epoch 0; best_epoch: whose
    weights were kept; transferred: what a warm start took over.
    """

    config: TrainConfig
    transform: Transform
    net: Net
    metrics: dict[str, float]
    statistics: dict[str, Any]
    optimizer_state: dict[str, Tensor]
    history: list[dict[str, float]]
    best_epoch: int
    transferred: Transferred | None

    @property
    def epochs(self) -> int:
        """How many epochs were run."""
        return int(self.history[-1]["epoch"])


def train(
    config: TrainConfig, dataset: Dataset, *, progress: Callable[[Progress], None], start: WarmStart | None = None
) -> TrainResult:
    """A training that is done in one go, see `Training.run`."""
    return Training(config, dataset, start).run(progress)


@dataclass(frozen=True)
class Training:
    """One training. start: begin from a parent, whose transform is grown and whose weights and optimizer state are
    taken over; workspace: where it keeps what it needs to go on after it was killed, and rows that memory need not
    hold; None to keep all in memory.
    """

    config: TrainConfig
    dataset: Dataset
    start: WarmStart | None = None
    workspace: Workspace | None = None

    def check(self) -> torch.device:
        """The device to train on. Raises what `run` raises of a training that cannot begin, and touches nothing."""
        device = chosen(self.config.device)
        params = self.config.net_params()
        check_params(self.config.architecture, params)
        if self.config.batch_size == 1 and params.get("batch_norm"):
            raise TrainingFailed(
                "batch_size 1 leaves batch norm no variance to divide by; give 2 or more, or batch_norm false"
            )
        check_labels(self.dataset)
        return device

    def run(self, progress: Callable[[Progress], None]) -> TrainResult:
        """Fit the transform, train the net, stop early on the stop split's AUC, keep the best epoch's weights.

        The untrained start from a parent is a candidate too, so the result is never worse than it on the stop split.
        Raises TrainingFailed on a loss that is not finite, labels of one class, an empty split, no GPU where one was
        asked for, or a checkpoint that cannot be gone on from, and UnknownArchitecture.
        """
        config, dataset = self.config, self.dataset
        device = self.check()
        start = self.start and self.start.under(dataset.facts.sampling_rate)
        if self.workspace is not None:
            self.workspace.opened()
        kept = self.workspace.latest(self._identity) if self.workspace is not None else None
        statistics = statistics_of(dataset)  # here, since what it takes meanwhile is not given back once steps are made
        rows = self._rows(start)
        fork = torch.random.fork_rng(devices=[torch.cuda.current_device()] if device != CPU else [])
        keep_freed_memory()
        say = self.workspace.say if self.workspace is not None else nothing
        with fork, unchecked_sparse(), threads_of(kept, say):
            torch.manual_seed(config.seed)
            after = self.workspace.after_step(self._identity) if self.workspace is not None else nothing
            fitter = _Fitter(config, rows, device, partial(Watch, progress, after=after), kept)
            machine = fitter.pretrained() if start is None else None
            learner = fitter.learner(config.architecture, config.net_params(), _position(rows.train, start))
            if machine is not None:
                pretrain(learner.net, machine)
            transferred, seen = None, seen_counts(learner.net, rows.transform)
            if start is not None:
                transferred, seen = transfer(start, learner, rows.transform)
            run, best = fitter.fit(Run(config, learner, fitter.watch(TRAINING)), seen, begin=start is not None)
            tally = judged(learner.net, rows.stop)
        return TrainResult(
            config,
            rows.transform,
            learner.net.to(CPU),
            metrics={"auc": tally.auc(), "log_loss": tally.log_loss()},
            statistics={**statistics, "score_histogram": tally.histogram.tolist()},
            optimizer_state={name: tensor.cpu() for name, tensor in best.state.items()},
            history=run.history,
            best_epoch=best.epoch,
            transferred=transferred,
        )

    def _rows(self, start: WarmStart | None) -> "_Rows":
        """The fitted transform and the encoded splits, from the workspace where they stand there."""
        dataset, space = self.dataset, self.workspace

        def fitted() -> Transform:
            if start is None:
                return fit(dataset.schema, dataset)
            return grow(start.parent.transform, dataset.schema, dataset, compact=start.compact)

        if space is None:
            encoder = Encoder(fitted(), dataset)
            return _Rows(encoder.transform, encoder.held("train"), encoder.held("stop"))
        keep_past(dataset, space.folder / "events")
        encoder = Encoder(space.transform(self._origin, dataset.schema, fitted), dataset)
        train, stop = (space.rows(encoder, split, self._origin) for split in ("train", "stop"))
        return _Rows(encoder.transform, train, stop)

    @cached_property
    def _origin(self) -> dict[str, Any]:
        """What the transform is fitted to and by: the data, the version whose transform is grown, and the release."""
        release = self.workspace.release if self.workspace else ""
        parent = self.start.parent.manifest.version if self.start else None
        return {
            "data": self.dataset.fingerprint(),
            "parent": parent,
            "compact": bool(self.start and self.start.compact),
            **({"release": release} if release else {}),
        }

    @cached_property
    def _identity(self) -> dict[str, Any]:
        """What a checkpoint is of."""
        config = {f"config.{name}": value for name, value in self.config.model_dump(mode="json").items()}
        device = chosen(self.config.device)
        dtype = str(training_dtype(self.config.precision, device))
        optimizer = {"optimizer": self.start.optimizer} if self.start else {}
        return self._origin | config | optimizer | {"device": device.type, "products in": dtype}


@dataclass(frozen=True)
class _Rows:
    """What a training is fitted to: the transform, and the splits encoded by it."""

    transform: Transform
    train: Encoded
    stop: Encoded


@dataclass(frozen=True)
class _Fitter:
    """Fits nets to the rows of one training. watch: who looks on, by phase; kept: what an interrupted training left."""

    config: TrainConfig
    rows: _Rows
    device: torch.device
    watch: Callable[[str], Watch]
    kept: Snapshot | None = None

    def learner(self, architecture: str, params: Mapping[str, Any], position: PositionBias | None) -> Learner:
        """A fresh net with its optimizers."""
        net = build(architecture, params, self.rows.transform.sizes)
        optimizers = partial(self.config.built_recipe().optimizers, batch_size=self.config.batch_size)
        return Learner.of(
            net, position, optimizers=optimizers, dtype=training_dtype(self.config.precision, self.device)
        )

    def fit(self, run: Run, seen: SeenCounts, *, begin: bool) -> tuple[Run, Kept]:
        """Run to the end, from where the training was interrupted in this phase; begin: the start is a candidate."""
        move(run.learner, self.device)
        if self.kept is not None and self.kept.facts["phase"] == run.watch.phase:
            restore(run, self.kept)
        elif begin:
            run.begin(self.rows.stop)
        there = {path: {name: counts.to(self.device) for name, counts in of.items()} for path, of in seen.items()}
        decays = self.config.built_recipe().decays
        return run, run.fit(self.rows.train, self.rows.stop, seen=there, decays=decays)

    def pretrained(self) -> Net | None:
        """The net of another family that the architecture begins with, trained on the same rows; None for none.

        None too where an interrupted training was past it.
        """
        config, family = self.config, ARCHITECTURES[self.config.architecture].pretrained
        params = check_params(config.architecture, config.net_params()).model_dump()
        past = self.kept is not None and self.kept.facts["phase"] == TRAINING
        if family is None or not params["pretrain_epochs"] or past:
            return None
        learner = self.learner(family, {"dim": params["dim"]}, _position(self.rows.train, None))
        epochs = min(params["pretrain_epochs"], config.epochs)
        run = Run(config.model_copy(update={"epochs": epochs}), learner, self.watch(PRETRAINING))
        self.fit(run, seen_counts(learner.net, self.rows.transform), begin=False)
        return learner.net.to(CPU)


def nothing(_: object) -> None:
    """What follows a step of a training that keeps no checkpoints, and what is said where nobody listens."""


def _position(examples: Encoded, start: WarmStart | None) -> PositionBias | None:
    """The term for where the apps stood, where the log tells it or the parent had learned it."""
    learned = start is not None and any(name.startswith(POSITION) for name in start.parent.optimizer or ())
    known = any(bool(part.any()) for part in torch.split(examples.position, POSITIONS_AT_ONCE))
    return PositionBias(examples.position) if learned or known else None


def unchecked_sparse() -> AbstractContextManager[None]:
    """Torch warns until sparse gradients are either checked or not; its own are well made, and a check costs time."""
    return torch.sparse.check_sparse_tensor_invariants(enable=False)  # type: ignore[no-untyped-call]  # torch's


def check_labels(dataset: Dataset) -> None:
    """Raise TrainingFailed unless the train and stop splits hold both classes."""
    for split in ("train", "stop"):
        of_split = dataset.scan().filter(pl.col("split") == split)
        count, positives = dataset.collect(of_split.select(pl.len(), pl.sum("label").cast(pl.Int64).alias("sum"))).row(
            0
        )
        if not 0 < positives < count:
            drawn = dataset.facts.negatives == NegativeRule.UNUSED and count
            advice = USED_UP if drawn and positives == count else "give it a log with more rows or over more time"
            raise TrainingFailed(
                f"the {split} split has {count} rows of which {positives} are positive; both classes are needed, so "
                f"{advice}"
            )


def predict(scorer: Scorer, dataset: Dataset, split: str) -> npt.NDArray[np.float64]:
    """(B,) probabilities of the split's rows in order, history as of each row, under the log's own sampling."""
    parts = [probabilities(scorer.net, encode(scorer.transform, dataset, rows)) for rows in dataset.pieces(split)]
    return np.concatenate(parts)
