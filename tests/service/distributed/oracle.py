"""Run under torchrun: trains sharded nets beside ordinary ones on the same rows, and writes how they differ.

torchrun --nproc-per-node 2 -m tests.service.distributed.oracle SHARDS OUT [ARCHITECTURE]
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor

from model.batch import Batch
from model.learner import POSITION, Learner, seen_counts
from model.position import PositionBias
from model.sharded.checkpoint import Checkpoints
from model.sharded.frames import joined, selected, weightless
from model.sharded.layout import Layout, Sharding
from model.sharded.learner import ShardedLearner
from model.sharded.reading import Part, Reader
from model.sharded.shards import Shards, Split
from model.train_config import TrainConfig
from model.training import unchecked_sparse
from model.zoo import build, check_params, forward
from tests.service.distributed.cases import CASES, Case, Found, config_of

STEPS = 5


@dataclass(frozen=True)
class Bench:
    """What one case is tried on."""

    shards: Shards
    config: TrainConfig
    out: Path

    def readers(self, split: Split) -> list[Reader]:
        """Every rank's, on every rank."""
        ranks = dist.get_world_size()
        return [Reader(self.shards, split, rank, ranks, self.config.batch_size) for rank in range(ranks)]

    def steps(self, split: Split) -> list[tuple[list[Part], Batch]]:
        """The ranks' parts of each step, and the rows that count in them as one batch."""
        order = (0, 1) if split == "train" else None
        parts = zip(*(reader.parts(order) for reader in self.readers(split)), strict=True)
        return [(list(step), joined([counted(part) for part in step if part.counted])) for step in parts]


def counted(part: Part) -> Batch:
    return selected(part.batch, torch.arange(part.counted))


def tried(bench: Bench, sharding: Sharding) -> Found:
    """The largest differences in weights, optimizer state and scores after some steps."""
    rank, kept = dist.get_rank(), Checkpoints(bench.out / "checkpoints")
    sharded = ShardedLearner.of(bench.config, bench.shards, Layout(sharding))
    kept.save("start", sharded.tensors(), sharded.shards, {})
    ordinary = ordinary_of(bench, kept.whole("start"))
    train = bench.steps("train")
    for parts, whole in [*islice(train, STEPS), alone(train[-1][0])]:
        sharded.step(parts[rank])
        ordinary.step(whole)
    vocabularies = bench.shards.transform.vocabularies
    sharded.settle_unseen({name: torch.from_numpy(one.counts) for name, one in vocabularies.items()})
    ordinary.settle_unseen(seen_counts(ordinary.net, bench.shards.transform))
    kept.save("end", sharded.tensors(), sharded.shards, {})
    end = kept.whole("end")
    scores = scored(bench, sharded, ordinary)
    if rank == 0:
        kept.remove()
    dist.barrier()
    weights = {f"net.{name}": value for name, value in ordinary.net.state_dict().items()}
    state = {
        f"beside.{name.removeprefix(POSITION)}" if "/" not in name else f"state.{name}": value
        for name, value in ordinary.state().items()
    }
    held = [len(shard.weight) for shard in sharded.shards]
    return Found(furthest(weights, end), furthest(state, end), scores, held)


def alone(parts: list[Part]) -> tuple[list[Part], Batch]:
    """A step in which the first rank has rows, and the others take part with rows that count nothing."""
    rows = counted(parts[0])
    others = [Part(weightless(rows), 0, len(rows))] * (len(parts) - 1)  # of ids that the first names too
    return [Part(rows, len(rows), len(rows)), *others], rows


def idle(bench: Bench) -> tuple[float, float]:
    """By how much batch norm's statistics change in a step with rows, and in one without any."""
    learner, (parts, _) = ShardedLearner.of(bench.config, bench.shards, Layout()), bench.steps("train")[0]
    part, moved = parts[dist.get_rank()], list[float]()
    for one in (part, Part(weightless(part.batch), 0, part.total)):
        before = {name: value.clone() for name, value in learner.own.net.named_buffers() if "running" in name}
        learner.step(one)
        after = dict(learner.own.net.named_buffers())
        moved.append(max(float((after[name] - value).abs().max()) for name, value in before.items()))
    return moved[0], moved[1]


def ordinary_of(bench: Bench, start: dict[str, Tensor]) -> Learner:
    """A whole net on this rank alone, with the weights that the sharded one starts from."""
    config = bench.config
    net = build(config.architecture, config.net_params(), bench.shards.transform.sizes)
    net.load_state_dict({name.removeprefix("net."): value for name, value in start.items() if name.startswith("net.")})
    positions = joined([bench.shards.read("train", shard) for shard in range(len(bench.shards))]).position
    assert positions is not None
    position = PositionBias(positions) if positions.any() else None
    net.train()
    return Learner.of(net, position, optimizers=partial(config.built_recipe().optimizers, batch_size=config.batch_size))


@torch.no_grad()
def scored(bench: Bench, sharded: ShardedLearner, ordinary: Learner) -> float:
    steps = bench.steps("stop")
    _, together = sharded.scores(parts[dist.get_rank()] for parts, _ in steps)
    ordinary.net.eval()
    by_rank: Sequence[list[Batch]] = [
        [counted(parts[rank]) for parts, _ in steps if parts[rank].counted] for rank in range(dist.get_world_size())
    ]
    alone = [torch.sigmoid(forward(ordinary.net, joined(batches))) for batches in by_rank]
    return float((together - torch.cat(alone)).abs().max())


def furthest(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> float:
    """The largest difference between tensors of the same names, of large numbers as a share of them."""
    differences = ((value - theirs[name]).abs() / value.abs().clamp(min=1) for name, value in ours.items())
    return max(float(one.max()) for one in differences if one.numel())


def found_in(case: Case, shards: Shards, out: Path) -> Found:
    known = check_params(case.architecture, {}).model_dump()
    return tried(Bench(shards, config_of(case, known), out), case.sharding)


def main(folder: str, out: str, architecture: str = "") -> None:
    dist.init_process_group("gloo")
    shards = Shards.open(Path(folder))
    cases = [case for case in CASES if architecture in ("", case.architecture)]
    normed = TrainConfig(recipe="adam", params={"dim": 4, "hidden": (8,)}, batch_size=50)
    with unchecked_sparse():
        found = {case.name: found_in(case, shards, Path(out)).__dict__ for case in cases}
        found["idle"] = {"moved": idle(Bench(shards, normed, Path(out)))}
    (Path(out) / f"{dist.get_rank()}.json").write_text(json.dumps(found), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
