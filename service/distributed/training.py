"""A distributed training from the home's shards to a challenger, as each rank goes through it."""

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from service.distributed.ranks import Ranks, joined
from service.errors import TrainingUnderWay
from service.home import Home

if TYPE_CHECKING:
    from model.data.dataset import Dataset
    from model.run import Progress
    from model.sharded.plan import Plan
    from model.sharded.run import Outcome
    from model.train_config import TrainConfig
    from service.container import Container


@dataclass(frozen=True)
class Wanted:
    """What is asked for, of which home. sharding: auto, row or table; every: steps from one checkpoint to the next."""

    home: Home
    config: "TrainConfig"
    sharding: str = "auto"
    memory_gib: float = 16.0
    every: int = 500


def train_ranks(
    ranks: Ranks, wanted: Wanted, *, container: "Container | None", progress: "Callable[[Progress], None]"
) -> str | None:
    """Train together with the other ranks; the version of the challenger, on the rank that has the container.

    Every rank reads its own shards of the home's. Raises ServiceError and what the model's side refuses.
    """
    from model.data.dataset import read

    home = wanted.home
    plan = plan_of(wanted)
    plan.check(ranks.count)
    dataset = read(home.data) if container else None
    if dataset is not None:
        check_current(plan, dataset)
    with alone(plan.place) if container else nullcontext(), joined(ranks):
        return _trained(plan, container, dataset, progress=progress)


def plan_of(wanted: Wanted) -> "Plan":
    """The plan over the shards of the home. Raises ShardsUnusable."""
    from model.sharded.layout import Layout
    from model.sharded.plan import Plan
    from model.sharded.shards import Shards

    layout = Layout(wanted.sharding, wanted.memory_gib)  # type: ignore[arg-type]  # checked where it was read
    return Plan(wanted.config, Shards.open(wanted.home.shards), wanted.home.runs, layout, wanted.every)


def check_current(plan: "Plan", dataset: "Dataset") -> None:
    """Raise ShardsUnusable unless the shards are of this dataset."""
    from model.sharded.errors import ShardsUnusable
    from model.sharded.shards import AGAIN

    if dataset.fingerprint() != plan.shards.contents.data:
        raise ShardsUnusable(f"{plan.shards.folder} holds shards of other data than the home's; {AGAIN}")


@contextmanager
def alone(place: Path) -> Iterator[None]:
    """Hold the folder of a run, where two of one config would overwrite each other's checkpoints.

    The kernel frees it on death. Raises TrainingUnderWay where another process holds it.
    """
    place.mkdir(parents=True, exist_ok=True)
    with (place / "lock").open("a+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise TrainingUnderWay(place, holder=lock.read().strip() or "of unknown id") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield


def _trained(
    plan: "Plan", container: "Container | None", dataset: "Dataset | None", *, progress: "Callable[[Progress], None]"
) -> str | None:
    import torch.distributed as dist

    from model.memory import keep_freed_memory
    from model.sharded.learner import ShardedLearner
    from model.sharded.run import ShardedRun
    from model.training import unchecked_sparse

    plan.check_alike()
    keep_freed_memory()
    with unchecked_sparse():
        run = ShardedRun(plan, ShardedLearner.of(plan.config, plan.shards, plan.layout), progress=progress)
        run.resume()
        run.fit()
    version = _entered(plan, run.outcome(), container, dataset) if container and dataset is not None else None
    dist.barrier()  # so that a failure of the one that seals ends all, and all are restarted to seal again
    if container:
        run.forget()
    return version


def _entered(plan: "Plan", outcome: "Outcome", container: "Container", dataset: "Dataset") -> str:
    from model.data.stored_past import keep_past
    from model.sharded.result import result_of
    from service.lifecycle import enter_result

    keep_past(dataset, plan.place / "events")
    return enter_result(container, result_of(plan, outcome, dataset), dataset, token=secrets.token_hex(3))
