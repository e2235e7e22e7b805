"""One training run as each rank goes through it: the same steps, the same judgement, the same end."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from model.metrics import auc, log_loss
from model.run import Progress
from model.sharded.checkpoint import BEST, LATEST, Checkpoints
from model.sharded.learner import ShardedLearner
from model.sharded.plan import Plan
from model.sharded.reading import Reader
from model.train_config import TrainingFailed

SCORED_ROWS = 8192


@dataclass
class State:
    """How far a run has come. step: steps done of `epoch`; total: their losses added up on this rank's rows."""

    epoch: int = 1
    step: int = 0
    total: float = 0.0
    failures: int = 0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    done: bool = False


@dataclass(frozen=True)
class Outcome:
    """A run's end, for the one rank that makes a bundle of it. tensors: of the best epoch, each of them whole."""

    history: list[dict[str, float]]
    best_epoch: int
    tensors: Mapping[str, Tensor]


class ShardedRun:
    """A run under way on this rank."""

    def __init__(self, plan: Plan, learner: ShardedLearner, *, progress: Callable[[Progress], None]) -> None:
        self.plan, self.learner, self.progress = plan, learner, progress
        self.state = State()
        self.resumed = False
        self._kept = Checkpoints(plan.place)
        place = dist.get_rank(), dist.get_world_size()
        self._train = Reader(plan.shards, "train", *place, plan.config.batch_size)
        self._stop = Reader(plan.shards, "stop", *place, SCORED_ROWS)

    def resume(self) -> None:
        """Go on from the latest checkpoint where there is one, of however many ranks. Collective."""
        facts = self._kept.facts(LATEST)
        if facts is None:
            return
        self.learner.reserve()
        self._kept.load(LATEST, self.learner.tensors(), self.learner.shards)
        rates = facts.pop("rates")
        total = facts.pop("loss")
        self.state = State(**facts, total=total / dist.get_world_size())
        for optimizer, groups in zip(self.learner.own.optimizers, rates, strict=True):
            for group, rate in zip(optimizer.param_groups, groups, strict=True):
                group |= {"lr": rate} if rate is not None else {}
        self.resumed = True

    def fit(self) -> None:
        """Train until `patience` epochs in a row brought nothing. Collective."""
        config, state = self.plan.config, self.state
        decays = config.built_recipe().decays
        vocabularies = self.plan.shards.transform.vocabularies
        counts = {name: torch.from_numpy(vocabulary.counts) for name, vocabulary in vocabularies.items()}
        while not state.done:
            loss = self._epoch()
            self.learner.settle_unseen(counts)
            self._judge(loss)
            state.done = state.failures >= config.patience or state.epoch >= config.epochs
            if not state.done:
                if state.failures and decays:
                    self.learner.own.decay()
                state.epoch, state.step, state.total = state.epoch + 1, 0, 0.0
            self._keep(LATEST)

    def outcome(self) -> Outcome:
        """What came of it, on the rank that asks."""
        return Outcome(self.state.history, self.state.best_epoch, self._kept.whole(BEST))

    def forget(self) -> None:
        """Remove the checkpoints."""
        self._kept.remove()

    def _epoch(self) -> float:
        """The mean loss of the epoch's rows, over all ranks."""
        state, config = self.state, self.plan.config
        steps, before = self._train.steps, state.history[-1]["auc"] if state.history else None
        self.learner.whole.train()
        for part in self._train.parts((config.seed, state.epoch), skip=min(state.step, steps)):
            # dropout is drawn from the step alone, so that a resumed run draws what an uninterrupted one would
            torch.manual_seed(hash((config.seed, state.epoch, state.step, dist.get_rank())) & 0x7FFFFFFFFFFFFFFF)
            loss = self.learner.step(part)
            state.step, state.total = state.step + 1, state.total + loss
            if not math.isfinite(loss):
                raise TrainingFailed(
                    f"the loss became {loss} at epoch {state.epoch}, step {state.step} of {steps}; lower the rate"
                )
            mean = state.total / max(self._rows_done(state.step), 1)
            self.progress(Progress(state.epoch, config.epochs, state.step, steps, mean, before))
            if state.step % self.plan.every == 0 and state.step < steps:
                self._keep(LATEST)
        return self._loss() / max(sum(self._train.held), 1)

    def _rows_done(self, steps: int) -> int:
        """Rows that this rank has trained on in as many steps."""
        rank = dist.get_rank()
        return min(steps * self._train.shares[rank], self._train.held[rank])

    def _loss(self) -> float:
        """The losses of all ranks' rows so far, added up."""
        total = torch.tensor([self.state.total], dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)

    def _judge(self, loss: float) -> None:
        """Measure the net on the stop split, the same on every rank, and keep it if none was better."""
        state = self.state
        label, scores = self.learner.scores(self._stop.parts(None))
        best = max((record["auc"] for record in state.history), default=-math.inf)
        found = {"epoch": state.epoch, "loss": loss, "auc": auc(label, scores), "log_loss": log_loss(label, scores)}
        state.history.append(found)
        state.failures += 1
        if found["auc"] > best + 1e-6:
            state.failures, state.best_epoch = 0, state.epoch
            self._keep(BEST)

    def _keep(self, name: str) -> None:
        state = self.state
        facts: dict[str, Any] = {
            "epoch": state.epoch, "step": state.step, "failures": state.failures, "best_epoch": state.best_epoch,
            "history": state.history, "done": state.done, "loss": self._loss(),
            "rates": [[group.get("lr") for group in one.param_groups] for one in self.learner.own.optimizers],
        }  # fmt: skip
        self._kept.save(name, self.learner.tensors(), self.learner.shards, facts)
