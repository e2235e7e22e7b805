"""Training: the loop and its guards. One logistic loss, every part of the net trained jointly."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor

from model.data.dataset import Dataset
from model.data.examples import Examples, encode, rows_of
from model.fitting import fit
from model.growth import grow
from model.learner import POSITION, Learner, SeenCounts, seen_counts
from model.metrics import auc, log_loss
from model.optim import RECIPES, Recipe
from model.position import PositionBias
from model.scorer import Scorer
from model.statistics import statistics_of
from model.transforms import Transform
from model.warmstart import Transferred, WarmStart, transfer
from model.zoo import Net, build, forward

ROWS_AT_ONCE = 8192


class TrainingFailed(RuntimeError):
    """Training cannot go on or cannot start; the message holds the numbers."""


class TrainConfig(BaseModel):
    """What is trained and how."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    architecture: str = "wide_deep"
    params: dict[str, Any] = Field(default_factory=dict)
    recipe: str = "paper"
    recipe_options: dict[str, Any] = Field(default_factory=dict)
    batch_size: int = Field(512, ge=1)
    epochs: int = Field(30, ge=1)
    patience: int = Field(2, ge=1)
    seed: int = 0

    def built_recipe(self) -> Recipe:
        """The recipe with its options. Raises TrainingFailed naming an unknown recipe or option."""
        if self.recipe not in RECIPES:
            raise TrainingFailed(f"no recipe {self.recipe!r}; there are {', '.join(sorted(RECIPES))}")
        try:
            return RECIPES[self.recipe].model_validate(self.recipe_options)
        except ValidationError as error:
            first = error.errors()[0]
            raise TrainingFailed(f"recipe {self.recipe}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


@dataclass(frozen=True)
class Progress:
    """Where a run stands. loss: the mean of the epoch so far; auc: of the last finished epoch on the stop split.

    Epoch 0 is a warm start before its first step; its loss is the stop split's.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    auc: float | None


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
    """Fit the transform, train the net, stop early on the stop split's AUC, keep the best epoch's weights.

    start: begin from a parent, whose transform is grown and whose weights and optimizer state are taken over; that
    untrained start is a candidate too, so the result is never worse than it on the stop split.
    Raises TrainingFailed on a loss that is not finite, labels of one class, or an empty split, with the numbers.
    """
    recipe = config.built_recipe()
    check_labels(dataset)
    schema, start = dataset.schema, start and start.under(dataset.facts.sampling_rate)
    transform = grow(start.parent.transform, schema, dataset, compact=start.compact) if start else fit(schema, dataset)
    examples = encode(transform, dataset, rows_of(dataset, "train"))
    held_out = encode(transform, dataset, rows_of(dataset, "stop"))
    with torch.random.fork_rng(devices=[]), unchecked_sparse():
        torch.manual_seed(config.seed)
        net = build(config.architecture, {**recipe.net_params, **config.params}, transform.sizes)
        optimizers = partial(recipe.optimizers, batch_size=config.batch_size)
        learner = Learner.of(net, _position(examples, start), optimizers=optimizers)
        transferred, seen = transfer(start, learner, transform) if start else (None, seen_counts(net, transform))
        run = Run(config, learner, progress)
        if start:
            run.begin(held_out)
        kept = run.fit(examples, held_out, seen=seen, decays=recipe.decays)
    scores = probabilities(net, held_out)
    metrics = {"auc": auc(_array(held_out.label), scores), "log_loss": log_loss(_array(held_out.label), scores)}
    statistics = statistics_of(dataset, transform, scores)
    return TrainResult(config, transform, net, metrics, statistics, kept.state, run.history, kept.epoch, transferred)


def _position(examples: Examples, start: WarmStart | None) -> PositionBias | None:
    """The term for where the apps stood, where the log tells it or the parent had learned it."""
    learned = start is not None and any(name.startswith(POSITION) for name in start.parent.optimizer or ())
    return PositionBias(examples.position) if learned or bool(examples.position.any()) else None


def unchecked_sparse() -> AbstractContextManager[None]:
    """Torch warns until sparse gradients are either checked or not; its own are well made, and a check costs time."""
    return torch.sparse.check_sparse_tensor_invariants(enable=False)  # type: ignore[no-untyped-call]  # torch's


def check_labels(dataset: Dataset) -> None:
    """Raise TrainingFailed unless the train and stop splits hold both classes."""
    for split in ("train", "stop"):
        labels = rows_of(dataset, split)["label"]
        positives = int(labels.sum())
        if not 0 < positives < len(labels):
            raise TrainingFailed(
                f"the {split} split has {len(labels)} rows of which {positives} are positive; both classes are needed"
            )


@dataclass(frozen=True)
class Kept:
    """The best candidate so far: its epoch, its AUC, the net's weights, and the optimizers' tensors beside them."""

    epoch: int
    auc: float
    weights: dict[str, Tensor]
    state: dict[str, Tensor]


class Run:
    """One training run's moving parts. best: the candidate to keep, None before the first; history: a record each."""

    def __init__(self, config: TrainConfig, learner: Learner, progress: Callable[[Progress], None]) -> None:
        self.config, self.learner, self.progress = config, learner, progress
        self.best: Kept | None = None
        self.history: list[dict[str, float]] = []

    def begin(self, held_out: Examples) -> None:
        """Take the net as it stands for a candidate, of epoch 0."""
        best = self._judge(held_out, {"epoch": 0})
        self.progress(Progress(0, self.config.epochs, 1, 1, self.history[-1]["log_loss"], best.auc))

    def fit(self, examples: Examples, held_out: Examples, *, seen: SeenCounts, decays: bool) -> Kept:
        """Train until `patience` epochs in a row brought nothing; the best candidate, whose weights the net is left
        with.

        seen: how often training held each id, see `Learner.settle_unseen`; decays: lower the rate when an epoch fails.
        """
        failures = 0
        for epoch in range(1, self.config.epochs + 1):
            loss = self._epoch(examples, epoch)
            self.learner.settle_unseen(seen)
            best = self._judge(held_out, {"epoch": epoch, "loss": loss})
            failures = 0 if best.epoch == epoch else failures + 1
            if failures >= self.config.patience:
                break
            if failures and decays:
                self.learner.decay()
        self.learner.net.load_state_dict(best.weights)
        return best

    def _judge(self, held_out: Examples, record: dict[str, float]) -> Kept:
        """Measure the net on the stop split and keep it if none was better; the best so far."""
        label, scores = _array(held_out.label), probabilities(self.learner.net, held_out)
        self.history.append({**record, "auc": auc(label, scores), "log_loss": log_loss(label, scores)})
        if self.best is None or self.history[-1]["auc"] > self.best.auc + 1e-6:
            weights = {name: value.clone() for name, value in self.learner.net.state_dict().items()}
            self.best = Kept(int(record["epoch"]), self.history[-1]["auc"], weights, self.learner.state())
        return self.best

    def _epoch(self, examples: Examples, epoch: int) -> float:
        self.learner.net.train()
        batches = shuffled(len(examples), self.config.batch_size)
        steps, total = len(batches), 0.0
        before = self.history[-1]["auc"] if self.history else None
        for step, rows in enumerate(batches, start=1):
            loss = self.learner.step(examples.batch(rows))
            if not math.isfinite(loss):
                raise TrainingFailed(f"the loss became {loss} at epoch {epoch}, step {step} of {steps}; lower the rate")
            total += loss
            self.progress(Progress(epoch, self.config.epochs, step, steps, total / step, before))
        return total / steps


def shuffled(count: int, size: int) -> list[Tensor]:
    """Every row once, in batches of `size`, in an order drawn from torch's generator.

    A last row left over joins the batch before it, since batch norm has no variance of one row to divide by.
    """
    batches = list(torch.split(torch.randperm(count), size))
    if len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


@torch.inference_mode()
def probabilities(net: Net, examples: Examples) -> npt.NDArray[np.float64]:
    """(B,) of every example in order, under the log's own sampling of negatives."""
    net.eval()
    parts = [
        torch.sigmoid(forward(net, examples.batch(torch.arange(start, min(start + ROWS_AT_ONCE, len(examples))))))
        for start in range(0, len(examples), ROWS_AT_ONCE)
    ]
    return torch.cat([torch.empty(0), *parts]).double().numpy()


def _array(label: Tensor) -> npt.NDArray[np.float64]:
    return label.double().numpy()


def predict(scorer: Scorer, dataset: Dataset, split: str) -> npt.NDArray[np.float64]:
    """(B,) probabilities of the split's rows in order, history as of each row, under the log's own sampling."""
    return probabilities(scorer.net, encode(scorer.transform, dataset, rows_of(dataset, split)))
