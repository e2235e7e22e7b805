"""A net whose tables lie in shards on all ranks: the same three methods, run on the rows that a batch asks for."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.func import functional_call

from model.batch import Batch, FieldSize, SideSizes, Sizes
from model.position import PositionBias
from model.sharded.layout import Shard
from model.sharded.tables import Renumbering, Table, tables_of
from model.zoo import Net, build, forward

DRAWN_ROWS = 4096


class Scored(nn.Module):
    """A net as one function of a batch. forward -> (B,) logits."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, batch: Batch) -> Tensor:
        """(B,) logits."""
        return forward(self.net, batch)


class ShardedNet(nn.Module):
    """A net of the zoo and beside it its tables. forward -> (B,) logits, the position's share among them.

    net: with tables of a row a field, which are only ever replaced by what a batch asks for; exchange: gives the rows
    that are asked for, by table.
    """

    def __init__(
        self, net: Net, exchange: nn.Module, *, renumbering: Renumbering, position: PositionBias | None
    ) -> None:
        super().__init__()
        self.scored, self.position = Scored(net), position
        self.exchange, self._renumbered = exchange, renumbering

    def forward(self, batch: Batch) -> Tensor:
        """(B,) logits. Every rank calls it, each with rows of its own."""
        asked = self._renumbered(batch)
        found = self.exchange(asked.rows)
        tables = {name: _Densified.apply(rows) for name, rows in found.items()}  # type: ignore[no-untyped-call]  # torch's
        given = {f"net.{name}": tensor for name, tensor in (*tables.items(), *asked.buffers.items())}
        logits = torch.as_tensor(functional_call(self.scored, given, (asked.batch,))).float()
        if self.training and self.position is not None and batch.position is not None:
            logits = logits + self.position(batch.position)
        return logits


class _Densified(Function):
    """The rows as they are. Their gradient, which lookups leave sparse, goes back to the owners a row each."""

    @staticmethod
    def forward(ctx: FunctionCtx, rows: Tensor) -> Tensor:
        return rows.view_as(rows)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> Tensor:
        return gradient.to_dense() if gradient.is_sparse else gradient


def skeleton(architecture: str, params: Mapping[str, Any], sizes: Sizes) -> tuple[Table, ...]:
    """The tables of the whole net, of which nothing is allocated. Raises Unshardable."""
    with torch.device("meta"):
        return tables_of(build(architecture, params, sizes))


def small_net(architecture: str, params: Mapping[str, Any], sizes: Sizes, *, tables: Sequence[Table]) -> Net:
    """The net with one row in each field of its tables, none of which is trained."""
    net = build(architecture, params, _sized(sizes, 1))
    untrained = {table.name for table in tables} | {
        name for name, parameter in net.named_parameters() if name.endswith(".table") and parameter.shape[1] == 1
    }
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name not in untrained)
    return net


def hold(net: Net, shards: Sequence[Shard]) -> None:
    """Put each shard in its table's place, so that whatever trains the net's parameters by name trains the shard."""
    for shard in shards:
        owner, _, name = shard.table.name.rpartition(".")
        setattr(net.get_submodule(owner), name, shard.weight)


@torch.no_grad()
def draw(shards: Sequence[Shard], make: Callable[[int], Net]) -> None:
    """Give every row the start that the architecture gives it, the same however many ranks there are.

    make: a net with DRAWN_ROWS rows in each field, from the seed of that number; its tables are drawn from net after
    net, so that no rank holds more of a table than its own shard.
    """
    left = {shard.table.name: shard for shard in shards if len(shard.weight)}
    place = 0
    begins = dict.fromkeys(left, 0)
    while left:
        drawn = dict(make(place).named_parameters())
        for name, shard in list(left.items()):
            begin, rows = begins[name], drawn[name]
            low, high = max(begin, shard.first), min(begin + len(rows), shard.first + len(shard.weight))
            if low < high:
                shard.weight[low - shard.first : high - shard.first] = rows[low - begin : high - begin]
            begins[name] = begin + len(rows)
            if begins[name] >= shard.first + len(shard.weight):
                del left[name]
        place += 1


def drawn_from(architecture: str, params: Mapping[str, Any], sizes: Sizes, *, seed: int) -> Callable[[int], Net]:
    """What `draw` takes the rows of a net from."""

    def make(place: int) -> Net:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + 7919 * (place + 1))
            return build(architecture, params, _sized(sizes, DRAWN_ROWS))

    return make


def _sized(sizes: Sizes, rows: int) -> Sizes:
    """The same sizes with that many ids in every field, and rows in the cross table."""

    def fields(of: Sequence[FieldSize]) -> tuple[FieldSize, ...]:
        return tuple(replace(field, size=rows) for field in of)

    def side(of: SideSizes) -> SideSizes:
        return replace(of, ids=fields(of.ids), bags=fields(of.bags))

    return replace(sizes, request=side(sizes.request), app=side(sizes.app), crosses=rows)
