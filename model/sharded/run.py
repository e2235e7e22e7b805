"""One training run as each rank goes through it: the same steps, the same judgement, the same end."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace

import torch
import torch.distributed as dist
from torch import Tensor

from model.run import Progress, check_finite
from model.sharded.checkpoint import BEST, LATEST, Checkpoints
from model.sharded.learner import ShardedLearner
from model.sharded.plan import Plan
from model.sharded.reading import Order, Reader, drawn_seed
from model.sharded.shards import Split
from model.tally import Tally
from model.train_config import Diverged

SCORED_ROWS = 8192


@dataclass
class State:
    """How far a run has come.

    step: steps that `ranks` ranks have done of `epoch`; done: rows of each shard that ranks of another number read in
    the epoch before, see `Reader`; total: its losses added up on this rank's rows; failures: epochs in a row that
    brought nothing; decays: of the rate so far; ended: whether there is nothing left to train.
    """

    ranks: int
    epoch: int = 1
    step: int = 0
    done: tuple[int, ...] = ()
    total: float = 0.0
    failures: int = 0
    decays: int = 0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    ended: bool = False


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
        self._rank, self._ranks = dist.get_rank(), dist.get_world_size()
        self.state = State(self._ranks)
        self._kept = Checkpoints(plan.place)

    def resume(self) -> None:
        """Go on from the latest checkpoint where there is one, of however many ranks. Collective."""
        state = self._kept.facts(LATEST, State)
        if state is None:
            return
        self._kept.load(LATEST, self.learner.tensors(), self.learner.shards)
        for _ in range(state.decays):
            self.learner.own.decay()
        if state.ranks != self._ranks:  # who share the shards out among them in another way
            former = Reader(self.plan.shards, "train", 0, state.ranks, self.plan.config.batch_size, state.done)
            state = replace(state, ranks=self._ranks, done=former.after(self._order(state), state.step), step=0)
        self.state = replace(state, total=state.total / self._ranks)

    def fit(self) -> None:
        """Train until `patience` epochs in a row brought nothing. Collective."""
        config, state = self.plan.config, self.state
        decays = config.built_recipe().decays
        vocabularies = self.plan.shards.transform.vocabularies
        counts = {name: torch.from_numpy(vocabulary.counts) for name, vocabulary in vocabularies.items()}
        while not state.ended:
            loss = self._epoch()
            self.learner.settle_unseen(counts)
            self._judge(loss)
            state.ended = state.failures >= config.patience or state.epoch >= config.epochs
            if not state.ended:
                if state.failures and decays:
                    self.learner.own.decay()
                    state.decays += 1
                state.epoch, state.step, state.done, state.total = state.epoch + 1, 0, (), 0.0
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
        reader = self._reader("train", config.batch_size, done=state.done)
        steps, before = reader.steps, state.history[-1]["auc"] if state.history else None
        self.learner.whole.train()
        for part in reader.parts(self._order(state), skip=state.step):
            # dropout is drawn from the step alone, so that a resumed run draws what an uninterrupted one would
            torch.manual_seed(drawn_seed(*self._order(state), sum(state.done), state.step, self._rank))
            loss = self.learner.step(part)
            state.step, state.total = state.step + 1, state.total + loss
            if not math.isfinite(loss):
                raise Diverged(
                    f"the loss became {loss} at epoch {state.epoch}, step {state.step} of {steps}; lower the rate"
                )
            mean = state.total / max(sum(state.done) / self._ranks + reader.before(state.step), 1)
            self.progress(Progress(state.epoch, config.epochs, state.step, steps, mean, before))
            if state.step % self.plan.every == 0 and state.step < steps:
                self.learner.average_buffers()  # since of each a checkpoint keeps one rank's
                self._keep(LATEST)
        return self._loss() / sum(self.plan.shards.contents.rows["train"])

    def _order(self, state: State) -> Order:
        """What the epoch's rows are shuffled by."""
        return self.plan.config.seed, state.epoch

    def _reader(self, split: Split, size: int, *, done: tuple[int, ...] = ()) -> Reader:
        return Reader(self.plan.shards, split, self._rank, self._ranks, size, done)

    def _loss(self) -> float:
        """The losses of all ranks' rows so far, added up."""
        total = torch.tensor([self.state.total], dtype=torch.float64)
        dist.all_reduce(total)
        return float(total)

    def _judge(self, loss: float) -> None:
        """Measure the net on the stop split, the same on every rank, and keep it if none was better."""
        state = self.state
        label, scores = self.learner.scores(self._reader("stop", SCORED_ROWS).parts(None))
        tally = Tally(len(scores))
        tally.take(label, scores)
        check_finite(tally, state.epoch)
        best = max((record["auc"] for record in state.history), default=-math.inf)
        found = {"epoch": state.epoch, "loss": loss, "auc": tally.auc(), "log_loss": tally.log_loss()}
        state.history.append(found)
        state.failures += 1
        if found["auc"] > best + 1e-6:
            state.failures, state.best_epoch = 0, state.epoch
            self._keep(BEST)

    def _keep(self, name: str) -> None:
        facts = asdict(replace(self.state, total=self._loss()))
        self._kept.save(name, self.learner.tensors(), self.learner.shards, facts)
