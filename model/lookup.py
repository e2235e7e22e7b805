"""Rows looked up in tables, with gradients that name each row once: sorted and added up before any optimizer sees them.

Torch's own sparse gradients repeat a row as often as a batch does, and adding those up (`coalesce`) took ten times as
long as everything here. Nothing is recorded where no gradient is asked for, so serving reads tables as before.
"""

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model.batch import Bag

SPARSE_FROM = 16
"""A column of weights this many times as long as what a batch names of it is not written whole to add gradients up."""


def looked_up(table: Tensor, ids: Tensor) -> Tensor:
    """(..., K): the rows of `table` (R, K) at `ids`, int64 of any shape."""
    if not (torch.is_grad_enabled() and table.requires_grad):
        return F.embedding(ids, table)
    return torch.as_tensor(_LookedUp.apply(table, ids))  # type: ignore[no-untyped-call]  # torch ships it untyped


def pooled(bag: Bag, table: Tensor, *, mode: str) -> Tensor:
    """(B, K): the rows of `table` (R, K) that each bag names, added up (sum) or averaged (mean); zeros for none."""
    if not (torch.is_grad_enabled() and table.requires_grad):
        return F.embedding_bag(bag.values, table, bag.offsets, mode=mode)
    rows = rows_of(bag)
    return torch.as_tensor(_Pooled.apply(table, bag, rows, mode))  # type: ignore[no-untyped-call]  # torch's


def summed(weights: Tensor, values: Tensor, rows: Tensor, *, into: Tensor) -> Tensor:
    """(B,): `into` (B,) and to each row b the `weights` (R, 1) at those `values` (V,) whose `rows` (V,) are b."""
    return torch.as_tensor(_Summed.apply(weights, values, rows, into))  # type: ignore[no-untyped-call]  # torch's


def weighed(values: Tensor, weights: Tensor) -> Tensor:
    """(B,) float32: each row's numbers (B, D) by `weights` (D,), added up.

    Autocast would round it on a GPU, where `mv` is one of its products, and then no weight of an id can be added to it.
    """
    if not torch.is_autocast_enabled(values.device.type):
        return torch.mv(values, weights)
    with torch.autocast(values.device.type, enabled=False):
        return torch.mv(values, weights)


def rows_of(bag: Bag) -> Tensor:
    """(V,) int64: the bag that each value is in."""
    each = torch.arange(len(bag.offsets), device=bag.offsets.device)
    if bag.values.numel() == each.numel() and torch.equal(bag.offsets, each):
        return each  # one value each, as most crosses have
    return each.repeat_interleave(bag.lengths)


def row_sums(
    gradient: Tensor, ids: Tensor, *, rows: Tensor | None = None, shares: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The rising ids (U,) of `ids` and (U, K) for each: `shares[v]` of `gradient[rows[v]]` added up, in its own type.

    gradient: (G, K); ids: (V,); rows: (V,), without it `gradient` is row by row that of `ids`; shares: (V,), else 1.
    After a sort the rows of each id lie together, and adding those up is what an embedding bag does, fast in bf16 too.
    """
    ordered, order = in_order(ids)
    touched, counts = torch.unique_consecutive(ordered, return_counts=True)
    weights = None if shares is None else shares[order].to(gradient.dtype)
    places = order if rows is None else rows[order]
    sums = F.embedding_bag(places, gradient, counts.cumsum(0) - counts, mode="sum", per_sample_weights=weights)
    return touched, sums


def in_order(ids: Tensor) -> tuple[Tensor, Tensor]:
    """(V,) the ids in rising order and (V,) their places among those given, which rise too where ids are equal.

    On a processor each id is put before its place in one number, and those are sorted: several times as fast as to
    sort the places by the ids. That takes ids and places of 63 bits together.
    """
    if ids.device.type != "cpu" or not ids.numel():
        ordered, order = ids.sort(stable=True)
        return ordered, order
    bits = ids.numel().bit_length()
    keys = (ids << bits) + torch.arange(ids.numel())
    keys.numpy().sort()
    return keys >> bits, keys & (2**bits - 1)


def sparse_rows(rows: Tensor, values: Tensor, size: int) -> Tensor:
    """A coalesced sparse (size, K) in float32 with those values (R, K) at rows in rising order."""
    shape = (size, values.shape[1])
    return torch.sparse_coo_tensor(rows[None], values.float(), shape, is_coalesced=True, check_invariants=False)


class _Context(Protocol):
    """What is kept between the two directions. size: the table's rows; lengths: of the bags that are averaged."""

    saved_tensors: tuple[Tensor, ...]
    size: int
    lengths: Tensor | None

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _LookedUp(Function):
    @staticmethod
    def forward(ctx: _Context, table: Tensor, ids: Tensor) -> Tensor:
        ctx.save_for_backward(ids)
        ctx.size = table.shape[0]
        return F.embedding(ids, table)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        (ids,) = ctx.saved_tensors
        return sparse_rows(*row_sums(gradient.reshape(-1, gradient.shape[-1]), ids.flatten()), ctx.size), None


class _Pooled(Function):
    @staticmethod
    def forward(ctx: _Context, table: Tensor, bag: Bag, rows: Tensor, mode: str) -> Tensor:
        ctx.save_for_backward(bag.values, rows)
        ctx.size, ctx.lengths = table.shape[0], bag.lengths if mode == "mean" else None
        return F.embedding_bag(bag.values, table, bag.offsets, mode=mode)

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None, None]:
        values, rows = ctx.saved_tensors
        shares = None if ctx.lengths is None else ctx.lengths[rows].reciprocal()
        sums = row_sums(gradient.contiguous(), values, rows=rows, shares=shares)
        return sparse_rows(*sums, ctx.size), None, None, None


class _Summed(Function):
    @staticmethod
    def forward(ctx: _Context, weights: Tensor, values: Tensor, rows: Tensor, into: Tensor) -> Tensor:
        ctx.save_for_backward(values, rows)
        ctx.size = weights.shape[0]
        return into.index_add(0, rows, weights[:, 0].index_select(0, values))

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, None, Tensor]:
        values, rows = ctx.saved_tensors
        if ctx.size > SPARSE_FROM * values.numel():
            sums = row_sums(gradient[:, None].contiguous(), values, rows=rows)
            return sparse_rows(*sums, ctx.size), None, None, gradient
        whole = gradient.new_zeros(ctx.size).index_add_(0, values, gradient.index_select(0, rows))
        touched = whole.nonzero()[:, 0]
        return sparse_rows(touched, whole.index_select(0, touched)[:, None], ctx.size), None, None, gradient
