"""The only tensor container: encoded request sides, app sides and pairs, cut so that a side is computed once."""

from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class Bag:
    """B bags of ids laid end to end.

    values: (V,) int64; offsets: (B,) int64, where each bag begins.
    """

    values: Tensor
    offsets: Tensor

    def __post_init__(self) -> None:
        if self.values.dtype != torch.int64 or self.offsets.dtype != torch.int64:
            raise TypeError(f"a bag holds int64, not {self.values.dtype} and {self.offsets.dtype}")

    @property
    def lengths(self) -> Tensor:
        """(B,) int64: how many ids each bag holds."""
        ends = torch.cat([self.offsets[1:], self.offsets.new_tensor([self.values.numel()])])
        return ends - self.offsets

    def select(self, rows: Tensor) -> Self:
        """The bags at `rows` (R,), in that order."""
        lengths = self.lengths[rows]
        ends = lengths.cumsum(0)
        shift = (self.offsets[rows] - ends + lengths).repeat_interleave(lengths)
        return type(self)(self.values[torch.arange(shift.numel()) + shift], ends - lengths)


@dataclass(frozen=True)
class Side:
    """One side of B examples, a request's or an app's.

    ids: (B, F) int64, one id within its field for each categorical field; dense: (B, D) float32 in [0, 1];
    bags: ids of each multi-valued field; crosses: rows of the cross table for crosses wholly on this side;
    keys: this side's half of each two-sided cross as 64-bit hashes, a bag a cross.
    """

    ids: Tensor
    dense: Tensor
    bags: tuple[Bag, ...] = ()
    crosses: tuple[Bag, ...] = ()
    keys: tuple[Bag, ...] = ()

    def __post_init__(self) -> None:
        if self.ids.dtype != torch.int64 or self.dense.dtype != torch.float32:
            raise TypeError(f"a side holds int64 ids and float32 dense, not {self.ids.dtype} and {self.dense.dtype}")

    def __len__(self) -> int:
        return self.ids.shape[0]

    def select(self, rows: Tensor) -> Self:
        """The examples at `rows` (R,), in that order."""
        parts = (tuple(bag.select(rows) for bag in bags) for bags in (self.bags, self.crosses, self.keys))
        return type(self)(self.ids[rows], self.dense[rows], *parts)


@dataclass(frozen=True)
class Pair:
    """What belongs to neither side alone: dense (B, D) float32 and rows of the cross table, a bag a cross."""

    dense: Tensor
    crosses: tuple[Bag, ...] = ()


@dataclass(frozen=True)
class Batch:
    """B labelled examples: both sides, the pair, label (B,) float32 in {0, 1} and weight (B,) float32.

    position: (B,) int64, where each app stood in its list, from 1, and 0 where that is not known; for training only.
    """

    request: Side
    app: Side
    pair: Pair
    label: Tensor
    weight: Tensor
    position: Tensor | None = None

    def __len__(self) -> int:
        return self.label.shape[0]


@dataclass(frozen=True)
class FieldSize:
    """One id field as the network sees it: how many ids, and its embedding width where the schema fixes one."""

    name: str
    size: int
    dim: int | None = None


@dataclass(frozen=True)
class SideSizes:
    """What a `Side` holds: its categorical fields, its multi-valued fields and how many continuous values."""

    ids: tuple[FieldSize, ...]
    bags: tuple[FieldSize, ...]
    dense: int


@dataclass(frozen=True)
class Sizes:
    """Everything a network must know to size its parameters; crosses: rows of the cross table."""

    request: SideSizes
    app: SideSizes
    pair_dense: int
    crosses: int
