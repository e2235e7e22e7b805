"""One training run: its epochs, what it keeps, and the guard that stops it early."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.batch import Batch
from model.device import moved
from model.learner import Learner, SeenCounts
from model.shuffle import Shuffle
from model.tally import Tally
from model.train_config import Diverged, TrainConfig
from model.zoo import Net, forward

ROWS_AT_ONCE = 8192


class Rows(Protocol):
    """Encoded examples, whichever way they are kept."""

    @property
    def label(self) -> Tensor:
        """(B,) float32."""

    def __len__(self) -> int: ...

    def batch(self, rows: Tensor) -> Batch:
        """The examples at `rows` (R,) int64."""


@dataclass(frozen=True)
class Progress:
    """Where a run stands. loss: the mean of the epoch so far; auc: of the last finished epoch on the stop split.

    Epoch 0 is a warm start before its first step; its loss is the stop split's. phase: pretraining where another
    family is trained first, else training.
    """

    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    auc: float | None
    phase: str = "training"


@dataclass(frozen=True)
class Kept:
    """The best candidate so far: its epoch, its AUC, the net's weights, and the optimizers' tensors beside them."""

    epoch: int
    auc: float
    weights: dict[str, Tensor]
    state: dict[str, Tensor]


@dataclass(frozen=True)
class Watch:
    """Who looks on. progress: told of every step; after: called after every step, and may keep a checkpoint."""

    progress: Callable[[Progress], None]
    phase: str = "training"
    after: "Callable[[Run], None]" = lambda _: None


class Run:
    """One training run's moving parts.

    best: the candidate to keep, None before the first; history: a record an epoch; epoch, step: the one under way,
    from 1, and how many of its steps are done; total: their losses added up; failures: epochs in a row that brought
    nothing.
    """

    def __init__(self, config: TrainConfig, learner: Learner, watch: Watch) -> None:
        self.config, self.learner, self.watch = config, learner, watch
        self.best: Kept | None = None
        self.history: list[dict[str, float]] = []
        self.epoch, self.step, self.total, self.failures = 1, 0, 0.0, 0

    def begin(self, held_out: Rows) -> None:
        """Take the net as it stands for a candidate, of epoch 0."""
        best = self._judge(held_out, {"epoch": 0})
        self._tell(Progress(0, self.config.epochs, 1, 1, self.history[-1]["log_loss"], best.auc, self.watch.phase))

    def fit(self, examples: Rows, held_out: Rows, *, seen: SeenCounts, decays: bool) -> Kept:
        """Train until `patience` epochs in a row brought nothing; the best candidate, whose weights the net is left
        with.

        seen: how often training held each id, see `Learner.settle_unseen`; decays: lower the rate when an epoch fails.
        """
        while True:
            loss = self._epoch(examples)
            self.learner.settle_unseen(seen)
            best = self._judge(held_out, {"epoch": self.epoch, "loss": loss})
            self.failures = 0 if best.epoch == self.epoch else self.failures + 1
            if self.failures >= self.config.patience or self.epoch >= self.config.epochs:
                break
            if self.failures and decays:
                self.learner.decay()
            self.epoch, self.step, self.total = self.epoch + 1, 0, 0.0
        self.learner.net.load_state_dict(best.weights)
        return best

    def _judge(self, held_out: Rows, record: dict[str, float]) -> Kept:
        """Measure the net on the stop split and keep it if none was better; the best so far."""
        tally = judged(self.learner.net, held_out)
        check_finite(tally, int(record["epoch"]))
        self.history.append({**record, "auc": tally.auc(), "log_loss": tally.log_loss()})
        if self.best is None or self.history[-1]["auc"] > self.best.auc + 1e-6:
            weights = {name: value.clone() for name, value in self.learner.net.state_dict().items()}
            self.best = Kept(int(record["epoch"]), self.history[-1]["auc"], weights, self.learner.state())
        return self.best

    def _epoch(self, examples: Rows) -> float:
        """The mean loss of the epoch's steps, those that an interrupted run had done already among them."""
        self.learner.net.train()
        config, device = self.config, device_of(self.learner.net)
        shuffle = Shuffle(len(examples), config.batch_size, config.seed, config.shuffle_rows)
        steps, before = shuffle.steps, self.history[-1]["auc"] if self.history else None
        for rows in islice(shuffle.batches(self.epoch), self.step, None):
            loss = self.learner.step(moved(examples.batch(rows), device))
            self.step, self.total = self.step + 1, self.total + loss
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at epoch {self.epoch}, step {self.step} of {steps}; lower the rate"
                )
            mean = self.total / self.step
            self._tell(Progress(self.epoch, config.epochs, self.step, steps, mean, before, self.watch.phase))
            self.watch.after(self)
        return self.total / steps

    def _tell(self, progress: Progress) -> None:
        self.watch.progress(progress)


def judged(net: Net, examples: Rows) -> Tally:
    """What a net makes of every example."""
    tally = Tally(len(examples))
    for label, scores in scored(net, examples):
        tally.take(label, scores)
    return tally


def probabilities(net: Net, examples: Rows) -> npt.NDArray[np.float64]:
    """(B,) of every example in order, under the log's own sampling of negatives."""
    return torch.cat([torch.empty(0), *(scores for _, scores in scored(net, examples))]).double().numpy()


def scored(net: Net, examples: Rows) -> Iterator[tuple[Tensor, Tensor]]:
    """Label and probability of the examples in order, ROWS_AT_ONCE at a time, on the CPU."""
    net.eval()
    device = device_of(net)
    for start in range(0, len(examples), ROWS_AT_ONCE):
        batch = examples.batch(torch.arange(start, min(start + ROWS_AT_ONCE, len(examples))))
        with torch.inference_mode():
            scores = torch.sigmoid(forward(net, moved(batch, device))).cpu()
        yield batch.label, scores


def check_finite(tally: Tally, epoch: int) -> None:
    """Raise Diverged unless all scores of the stop split are finite: an epoch's last step has no loss after it."""
    if wrong := tally.not_finite:
        advice = "lower the rate" if epoch else "so were its parent's; train from scratch"
        raise Diverged(f"{wrong} of {tally.rows} scores of the stop split are not finite after epoch {epoch}; {advice}")


def device_of(net: Net) -> torch.device:
    """Where a net's parameters are."""
    return next((parameter.device for parameter in net.parameters()), torch.device("cpu"))
