"""The first layer over embeddings, multiplied once for each id of a field with few, instead of once for each row.

W e(id) is the same for every row that names the id. A field of 200 ids in a batch of 4096 rows needs a twentieth of the
products; what a row needs then is the sum of what its ids gave, and going back the sum over the rows of each id. That
is the split of serving (a side computed once) within a batch; the function and its gradients are those of the layer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model.lookup import sparse_rows

ROWS_PER_ID = 2
"""A batch has at least so many rows for each id of a field for its products to be made by id."""

NARROWEST = 16
"""Embeddings of fewer dimensions are multiplied faster than what their ids gave is added up."""


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


def projected(table: Tensor, weight: Tensor, ids: Tensor, fields: Sequence[Placed]) -> Tensor:
    """(B, H): the sum over the fields of W_f e_f, of the rows of `table` (R, K) that `ids` (B, all fields) name.

    weight: (H, K x fields), the layer's columns of these fields in their order.
    """
    sizes = [field.size for field in fields]
    starts = torch.tensor([0, *accumulate(sizes)][: len(sizes)])
    own = ids.index_select(1, torch.tensor([field.place for field in fields])) + starts
    rows = torch.cat([torch.arange(field.start, field.start + field.size) for field in fields])
    return torch.as_tensor(_Projected.apply(table, weight, _Named(own, rows, sizes)))  # type: ignore[no-untyped-call]  # torch's


@dataclass(frozen=True)
class _Named:
    """The ids of some fields. own: (B, fields), each an index of rows; rows: (V,) of the table; sizes: by field."""

    own: Tensor
    rows: Tensor
    sizes: list[int]


class _Context(Protocol):
    """What is kept between the two directions. table: how many rows it has."""

    saved_tensors: tuple[Tensor, ...]
    named: _Named
    table: int

    def save_for_backward(self, *tensors: Tensor) -> None: ...


class _Projected(Function):
    @staticmethod
    def forward(ctx: _Context, table: Tensor, weight: Tensor, named: _Named) -> Tensor:
        on, dtype = torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")
        dtype = dtype if on else table.dtype
        vectors, weight, sizes = table.index_select(0, named.rows).to(dtype), weight.to(dtype), named.sizes
        ctx.save_for_backward(vectors, weight)
        ctx.named, ctx.table = named, table.shape[0]
        with torch.autocast("cpu", enabled=False):
            parts = zip(torch.split(vectors, sizes), weight.chunk(len(sizes), dim=1), strict=True)
            return F.embedding_bag(named.own, torch.cat([mine @ columns.t() for mine, columns in parts]), mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, Tensor, None]:
        (vectors, weight), own = ctx.saved_tensors, ctx.named.own
        flat, count = own.flatten(), own.shape[1]
        order = flat.argsort()
        touched, counts = torch.unique_consecutive(flat[order], return_counts=True)
        places = order.div(count, rounding_mode="floor")
        by_id = F.embedding_bag(places, gradient.contiguous(), counts.cumsum(0) - counts, mode="sum")
        ends = torch.searchsorted(touched, torch.tensor(ctx.named.sizes).cumsum(0))
        shares = torch.diff(ends, prepend=ends.new_zeros(1)).tolist()
        pairs = [*zip(torch.split(by_id, shares), weight.chunk(count, dim=1), strict=True)]
        to_vectors = torch.cat([one @ columns for one, columns in pairs])
        mine = torch.split(vectors.index_select(0, touched), shares)
        to_weight = torch.cat([one.t() @ part for (one, _), part in zip(pairs, mine, strict=True)], dim=1)
        return sparse_rows(ctx.named.rows[touched], to_vectors.float(), ctx.table), to_weight.float(), None
