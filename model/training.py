"""Training: the loop and its guards. One logistic loss, every part of the net trained jointly."""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor
from torch.optim import Optimizer

from model.data.dataset import Dataset
from model.data.examples import Examples, encode, rows_of
from model.fitting import fit
from model.layers import FieldEmbedding
from model.metrics import auc, log_loss
from model.optim import RECIPES, Recipe
from model.scorer import Scorer
from model.statistics import statistics_of
from model.transforms import Transform
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
    """Where a run stands. loss: the mean of the epoch so far; auc: of the last finished epoch on the stop split."""

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    auc: float | None


@dataclass(frozen=True)
class TrainResult:
    """A trained net with what a bundle needs of the run. history: a record an epoch."""

    config: TrainConfig
    transform: Transform
    net: Net
    metrics: dict[str, float]
    statistics: dict[str, Any]
    optimizer_state: dict[str, Tensor]
    history: list[dict[str, float]]


def train(config: TrainConfig, dataset: Dataset, *, progress: Callable[[Progress], None]) -> TrainResult:
    """Fit the transform, train the net, stop early on the stop split's AUC, keep the best epoch's weights.

    Raises TrainingFailed on a loss that is not finite, labels of one class, or an empty split, with the numbers.
    """
    recipe = config.built_recipe()
    check_labels(dataset)
    transform = fit(dataset.schema, dataset)
    examples = encode(transform, dataset, rows_of(dataset, "train"))
    held_out = encode(transform, dataset, rows_of(dataset, "stop"))
    with torch.random.fork_rng(devices=[]), unchecked_sparse():
        torch.manual_seed(config.seed)
        net = build(config.architecture, {**recipe.net_params, **config.params}, transform.sizes)
        run = Run(config, net, recipe.optimizers(net, config.batch_size), progress)
        history = run.fit(examples, held_out, decays=recipe.decays)
    settle_unseen(net, transform)
    scores = probabilities(net, held_out)
    metrics = {"auc": auc(_array(held_out.label), scores), "log_loss": log_loss(_array(held_out.label), scores)}
    statistics = statistics_of(dataset, transform, scores)
    return TrainResult(config, transform, net, metrics, statistics, run.state, history)


def unchecked_sparse() -> AbstractContextManager[None]:
    """Torch warns until sparse gradients are either checked or not; its own are well made, and a check costs time."""
    return torch.sparse.check_sparse_tensor_invariants(enable=False)  # type: ignore[no-untyped-call]  # torch's


def settle_unseen(net: Net, transform: Transform) -> None:
    """Give ids that training never saw the mean of their field, see `FieldEmbedding.settle_unseen`."""
    counts = {name: torch.from_numpy(vocabulary.counts) for name, vocabulary in transform.vocabularies.items()}
    for module in net.modules():
        if isinstance(module, FieldEmbedding):
            module.settle_unseen(counts)


def check_labels(dataset: Dataset) -> None:
    """Raise TrainingFailed unless the train and stop splits hold both classes."""
    for split in ("train", "stop"):
        labels = rows_of(dataset, split)["label"]
        positives = int(labels.sum())
        if not 0 < positives < len(labels):
            raise TrainingFailed(
                f"the {split} split has {len(labels)} rows of which {positives} are positive; both classes are needed"
            )


class Run:
    """One training run's moving parts. state: the optimizers' tensors as they were at the best epoch's weights."""

    def __init__(
        self, config: TrainConfig, net: Net, optimizers: list[Optimizer], progress: Callable[[Progress], None]
    ) -> None:
        self.config, self.net, self.optimizers, self.progress = config, net, optimizers, progress
        self.auc: float | None = None
        self.state: dict[str, Tensor] = {}

    def fit(self, examples: Examples, held_out: Examples, *, decays: bool) -> list[dict[str, float]]:
        """Train until `patience` epochs in a row brought nothing; the net is left with its best epoch's weights."""
        history: list[dict[str, float]] = []
        best, best_state, failures = -math.inf, dict[str, Tensor](), 0
        label = _array(held_out.label)
        for epoch in range(1, self.config.epochs + 1):
            loss = self._epoch(examples, epoch)
            scores = probabilities(self.net, held_out)
            self.auc = auc(label, scores)
            history.append({"epoch": epoch, "loss": loss, "auc": self.auc, "log_loss": log_loss(label, scores)})
            if self.auc > best + 1e-6:
                best, failures = self.auc, 0
                best_state = {name: value.clone() for name, value in self.net.state_dict().items()}
                self.state = self._state()
                continue
            failures += 1
            if failures >= self.config.patience:
                break
            if decays:
                self._decay()
        self.net.load_state_dict(best_state)
        return history

    def _state(self) -> dict[str, Tensor]:
        """Every optimizer's tensors by parameter name and kind: `deep.first.bias/sum`."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.net.named_parameters()}
        return {
            f"{names[parameter]}/{kind}": value.clone()
            for optimizer in self.optimizers
            for parameter, kinds in optimizer.state.items()
            for kind, value in kinds.items()
            if isinstance(value, Tensor)
        }

    def _epoch(self, examples: Examples, epoch: int) -> float:
        self.net.train()
        batches = shuffled(len(examples), self.config.batch_size)
        steps, total = len(batches), 0.0
        for step, rows in enumerate(batches, start=1):
            loss = self._step(examples, rows)
            if not math.isfinite(loss):
                raise TrainingFailed(f"the loss became {loss} at epoch {epoch}, step {step} of {steps}; lower the rate")
            total += loss
            self.progress(Progress(epoch, self.config.epochs, step, steps, total / step, self.auc))
        return total / steps

    def _step(self, examples: Examples, rows: Tensor) -> float:
        batch = examples.batch(rows)
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                if "scale" in group:  # a batch's mean loss is to count as the sum over its rows, however many those are
                    group["scale"] = float(len(batch))
        loss = F.binary_cross_entropy_with_logits(forward(self.net, batch), batch.label, weight=batch.weight)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    def _decay(self) -> None:
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= 0.1


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
