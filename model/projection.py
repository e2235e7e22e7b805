"""The first layer over embeddings, multiplied once for each id of a field with few, instead of once for each row.

W e(id) is the same for every row that names the id. A field of 200 ids in a batch of 4096 rows needs a twentieth of the
products; what a row needs then is the sum of what its ids gave, and going back the sum over the rows of each id. That
is the split of serving (a side computed once) within a batch; the function and its gradients are those of the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model.lookup import row_sums, sparse_rows

ROWS_PER_ID = 2
"""A batch has at least so many rows for each id of a field for its products to be made by id."""

NARROWEST = 16
"""Embeddings of fewer dimensions are multiplied faster than what their ids gave is added up."""

PADDED_TO = 64
"""What the rows of a product are rounded up to, where batches differ in how many ids they name. oneDNN keeps a kernel
of a MiB or so for each number of rows that it meets, a thousand of them: a process grew by 10 MiB a step."""


@dataclass(frozen=True)
class Placed:
    """A field with few ids. place: among a side's ids; start, size: its rows in the table; columns: of the layer."""

    place: int
    start: int
    size: int
    columns: range


def worthwhile(rows: int, ids: int, width: int) -> bool:
    """Whether the products of a field are to be made by id."""
    return width >= NARROWEST and ids * ROWS_PER_ID <= rows


def multiplied(weight: Tensor) -> Tensor:
    """The weight in the type that it is multiplied in on a processor: rounded once here, and not in each product."""
    return weight.to(torch.get_autocast_dtype("cpu")) if torch.is_autocast_enabled("cpu") else weight


def cut(weight: Tensor, apart: Sequence[Sequence[range]]) -> list[Tensor]:
    """Of the columns of `weight` (H, W) those that nothing is said of, and then each of the lots `apart`.

    It is split into runs of columns that lie together, since a gradient of picked columns would be added up one by one.
    """
    lots = [0] * weight.shape[1]
    for number, ranges in enumerate(apart, start=1):
        for columns in ranges:
            lots[columns.start : columns.stop] = [number] * len(columns)
    runs = [(lot, len([*run])) for lot, run in groupby(lots)]
    pieces = [*zip(runs, torch.split(weight, [length for _, length in runs], dim=1), strict=True)]
    by_lot = [[piece for (lot, _), piece in pieces if lot == number] for number in range(len(apart) + 1)]
    return [torch.cat(some or [weight[:, :0]], dim=1) for some in by_lot]


def padded(rows: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """The rows of each field, and zeros after them up to a multiple of PADDED_TO."""
    return [F.pad(part, (0, 0, 0, -len(part) % PADDED_TO)) for part in torch.split(rows, [*sizes])]


def projected(table: Tensor, layer: "Columns", ids: Tensor, fields: Sequence[Placed]) -> Tensor:
    """(B, H): b and the sum over the fields of W_f e_f, of the rows of `table` (R, K) that `ids` (B, all fields) name.

    layer: its columns of these fields in their order, (H, K x fields).
    """
    sizes = [field.size for field in fields]
    starts = torch.tensor([0, *accumulate(sizes)][: len(sizes)])
    own = ids.index_select(1, torch.tensor([field.place for field in fields])) + starts
    rows = torch.cat([torch.arange(field.start, field.start + field.size) for field in fields])
    named = _Named(own, rows, sizes)
    return torch.as_tensor(_Projected.apply(table, layer.weight, layer.bias, named))  # type: ignore[no-untyped-call]  # torch's


def added(sums: Tensor, given: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """(B, H): `sums`, which are overwritten, + W [given, values], of which `given` (B, D) learns nothing.

    given, values: (B, D) and (B, V); weight: (H, D + V), in the type of the sums.
    """
    return torch.as_tensor(_Added.apply(sums, given, values, weight))  # type: ignore[no-untyped-call]  # torch's


@dataclass(frozen=True)
class Columns:
    """Some columns of a layer, and its bias where these columns bring it."""

    weight: Tensor
    bias: Tensor | None = None


@dataclass(frozen=True)
class _Named:
    """The ids of some fields. own: (B, fields), each an index of rows; rows: (V,) of the table; sizes: by field."""

    own: Tensor
    rows: Tensor
    sizes: list[int]


class _Context(Protocol):
    """What is kept between the two directions. table: how many rows it has; given: the columns that learn nothing."""

    saved_tensors: tuple[Tensor, ...]
    needs_input_grad: tuple[bool, ...]
    named: _Named
    table: int
    given: int

    def save_for_backward(self, *tensors: Tensor) -> None: ...

    def mark_dirty(self, *tensors: Tensor) -> None: ...


class _Projected(Function):
    @staticmethod
    def forward(ctx: _Context, table: Tensor, weight: Tensor, bias: Tensor | None, named: _Named) -> Tensor:
        sizes = named.sizes
        vectors = table.index_select(0, named.rows).to(weight.dtype)
        ctx.save_for_backward(vectors, weight)
        ctx.named, ctx.table = named, table.shape[0]
        with torch.autocast("cpu", enabled=False):
            parts = zip(padded(vectors, sizes), weight.chunk(len(sizes), dim=1), sizes, strict=True)
            first, *others = ((mine @ columns.t())[:size] for mine, columns, size in parts)
            first = first if bias is None else first.add_(bias)  # every row names one id of the first field
            return F.embedding_bag(named.own, torch.cat([first, *others]), mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor | None, None]:
        (vectors, weight), own = ctx.saved_tensors, ctx.named.own
        count = own.shape[1]
        rows = torch.arange(len(own)).repeat_interleave(count)
        touched, by_id = row_sums(gradient.contiguous(), own.flatten(), rows=rows)
        ends = torch.searchsorted(touched, torch.tensor(ctx.named.sizes).cumsum(0))
        shares = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
        sums, mine = (padded(part, shares) for part in (by_id, vectors.index_select(0, touched)))
        columns = weight.chunk(count, dim=1)
        to_vectors = torch.cat([(one @ part)[:size] for one, part, size in zip(sums, columns, shares, strict=True)])
        to_weight = torch.cat([one.t() @ part for one, part in zip(sums, mine, strict=True)], dim=1)
        to_bias = sums[0].sum(0, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        return sparse_rows(ctx.named.rows[touched], to_vectors, ctx.table), to_weight, to_bias, None


class _Added(Function):
    @staticmethod
    def forward(ctx: _Context, sums: Tensor, given: Tensor, values: Tensor, weight: Tensor) -> Tensor:
        whole = torch.cat([given.to(weight.dtype), values.to(weight.dtype)], dim=1)
        ctx.save_for_backward(whole, weight)
        ctx.given = given.shape[1]
        ctx.mark_dirty(sums)
        return sums.addmm_(whole, weight.t())

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None, Tensor, Tensor]:
        whole, weight = ctx.saved_tensors
        to_values = gradient @ weight[:, ctx.given :]
        return gradient, None, to_values.float(), (whole.t() @ gradient).t()  # faster than gradient.t() @ whole
