"""What one rank does in a step: its part of the batch forward and back, and the optimizers of its shards."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from model.device import CPU
from model.layers import FieldEmbedding
from model.learner import Learner, initial_state, multiplying
from model.position import PositionBias
from model.precision import training_dtype
from model.sharded.exchange import Exchange, sharded
from model.sharded.layout import Layout, Shard
from model.sharded.net import ShardedNet, draw, drawn_from, hold, skeleton, small_net
from model.sharded.reading import FEWEST, Part
from model.sharded.shards import Shards
from model.sharded.tables import Renumbering
from model.train_config import TrainConfig


@dataclass(frozen=True)
class ShardedLearner:
    """One rank's share of a learner. whole: the net over all ranks; own: this rank's parameters and optimizers."""

    whole: nn.Module
    own: Learner
    shards: tuple[Shard, ...]

    @classmethod
    def of(cls, config: TrainConfig, shards: Shards, layout: Layout) -> "ShardedLearner":
        """A fresh one; every rank calls it. Raises TrainingFailed, UnknownArchitecture, Unshardable, TablesDoNotFit."""
        sizes, params = shards.transform.sizes, config.net_params()
        tables = skeleton(config.architecture, params, sizes)
        torch.manual_seed(config.seed)
        net = small_net(config.architecture, params, sizes, tables=tables)
        position = _position(shards.contents.positions)
        exchange = Exchange(tables)
        together = ShardedNet(net, exchange, renumbering=Renumbering(sizes, tables), position=position)
        whole, held = sharded(together, exchange, layout)
        draw(held, drawn_from(config.architecture, params, sizes, seed=config.seed))
        hold(net, held)
        optimizers = partial(config.built_recipe().optimizers, batch_size=config.batch_size)
        own = Learner.of(net, position, optimizers=optimizers, dtype=training_dtype(config.precision, CPU))
        _reserve(own)
        return cls(whole, own, tuple(held))

    def step(self, part: Part) -> float:
        """One update on all ranks' parts together; the sum of this part's losses before it.

        Of a part whose rows are there for others to go on, batch norm keeps nothing.
        """
        running = {} if part.counted >= FEWEST else {buffer: buffer.clone() for buffer in self._running()}
        for optimizer in self.own.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                if "scale" in group:
                    group["scale"] = float(part.total)
        batch = part.batch
        with multiplying(self.own.dtype, CPU):
            logits = self.whole(batch)
        loss = F.binary_cross_entropy_with_logits(logits, batch.label, weight=batch.weight, reduction="sum")
        # the ranks' gradients are averaged, and are to be those of the mean over the rows of all
        (loss * (dist.get_world_size() / part.total)).backward()  # type: ignore[no-untyped-call]  # torch's
        for shard in self.shards:
            if not len(shard.weight):  # so that what counts steps counts them on every rank
                shard.weight.grad = torch.zeros_like(shard.weight)
        for optimizer in self.own.optimizers:
            optimizer.step()
        for buffer, before in running.items():
            buffer.copy_(before)
        return loss.item()

    @torch.no_grad()
    def scores(self, parts: Iterable[Part]) -> tuple[Tensor, Tensor]:
        """Labels and probabilities (B,) of all ranks' rows, in the order of the ranks, the same on every rank."""
        self.average_buffers()
        self.whole.eval()
        mine: list[Tensor] = [torch.empty(2, 0)]
        for part in parts:
            found = torch.sigmoid(self.whole(part.batch))
            mine.append(torch.stack([part.batch.label, found])[:, : part.counted])
        self.whole.train()
        label, score = _gathered(torch.cat(mine, dim=1))
        return label, score

    @torch.no_grad()
    def average_buffers(self) -> None:
        """What batch norm has seen is the mean over the ranks, each of which saw rows of its own."""
        for buffer in self._running():
            dist.all_reduce(buffer)
            buffer /= dist.get_world_size()

    def _running(self) -> list[Tensor]:
        """What batch norm keeps of the rows that it saw."""
        return [buffer for name, buffer in self.own.net.named_buffers() if "running" in name]

    @torch.no_grad()
    def settle_unseen(self, counts: Mapping[str, Tensor]) -> None:
        """See `FieldEmbedding.settle_unseen`; counts: by field, how often training held each id."""
        for shard in self.shards:
            owner = self.own.net.get_submodule(shard.table.name.rpartition(".tables.")[0])
            if isinstance(owner, FieldEmbedding):
                _settle(shard, [counts[name] for name in shard.table.fields])

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint keeps, by name, not copied: `net.` weights, `beside.` the position's, `state.`."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.own.parameters.items()}
        of_net = {f"net.{name}": value.detach() for name, value in self.own.net.state_dict().items()}
        beside = self.own.position.named_parameters() if self.own.position else ()
        return {
            **of_net,
            **{f"beside.{name}": value.detach() for name, value in beside},
            **{
                f"state.{names[parameter]}/{kind}": value
                for optimizer in self.own.optimizers
                for parameter, kinds in optimizer.state.items()
                for kind, value in kinds.items()
                if isinstance(value, Tensor) and parameter in names
            },
        }


def _reserve(learner: Learner) -> None:
    """Make what the optimizers keep of what is trained, so that a checkpoint can be read into it before a step."""
    for optimizer in learner.optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.requires_grad and not optimizer.state[parameter]:
                    optimizer.state[parameter].update(initial_state(optimizer, group, parameter))


def _position(counts: tuple[int, ...]) -> PositionBias | None:
    """The term for where apps stood, where the log tells it."""
    known = torch.tensor((0, *counts[1:]), dtype=torch.float32)
    if not known.any():
        return None
    position = PositionBias(torch.empty(0, dtype=torch.int64))
    position.get_buffer("shares").copy_(known / known.sum())
    return position


def _gathered(mine: Tensor) -> Tensor:
    """(2, all rows): every rank's (2, rows) side by side."""
    count = torch.tensor([mine.shape[1]])
    counts = [torch.zeros_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    most = int(max(counts))
    padded = [torch.empty(2, most) for _ in counts]
    dist.all_gather(padded, F.pad(mine, (0, most - mine.shape[1])).contiguous())
    return torch.cat([part[:, : int(held)] for part, held in zip(padded, counts, strict=True)], dim=1)


def _settle(shard: Shard, counts: list[Tensor]) -> None:
    """Give the ids of a table that were never seen the mean of their field, to which every rank adds its rows."""
    mine: list[tuple[Tensor, Tensor]] = []
    begin = 0
    for seen in counts:
        low, high = (min(max(at - shard.first, 0), len(shard.weight)) for at in (begin, begin + len(seen)))
        mine.append((shard.weight[low:high], seen[low + shard.first - begin :][: high - low]))
        begin += len(seen)
    sums = torch.stack([seen.float() @ rows for rows, seen in mine])
    dist.all_reduce(sums)
    for (rows, seen), total, of_all in zip(mine, sums, counts, strict=True):
        rows[seen == 0] = total / of_all.sum().clamp(min=1)
