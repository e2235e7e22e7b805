"""Which field each row and column of a parameter belongs to: what a warm start matches a new net with an old one by.

A layer whose parameters follow the schema says so by `axes`; a parameter that it does not name belongs to no field.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, runtime_checkable

from torch import nn

from model.batch import FieldSize, SideSizes, Sizes


class Per(StrEnum):
    """What one row or column of a block stands for."""

    VALUE = "value"  # an id of the field's vocabulary
    KEY = "key"  # a row of the cross's table
    NUMBER = "number"  # the continuous value of the field
    EMBEDDING = "embedding"  # a dimension of the field's embedding
    PRODUCT = "product"  # the product of two fields, the owner `a*b` in the order of their names
    PLACE = "place"  # a place among others that belong to no field


@dataclass(frozen=True)
class Block:
    """`size` neighbouring rows or columns that belong to one field or cross, the owner.

    zero: whether those of a field that is new to a continued net begin at zero, so that its function stays the same;
    None for as usual: weights of what is summed do, rows of a vocabulary do not.
    """

    owner: str
    size: int
    per: Per
    zero: bool | None = None

    @property
    def begins_at_zero(self) -> bool:
        """See `zero`."""
        return self.per not in (Per.VALUE, Per.KEY) if self.zero is None else self.zero


Axes = Mapping[int, tuple[Block, ...]]
"""The described dimensions of one parameter, each as its blocks from the first row on."""


@runtime_checkable
class Described(Protocol):
    """A layer that knows whose its rows and columns are."""

    def axes(self) -> Mapping[str, Axes]:
        """The described dimensions of the layer's own parameters, by the parameter's name within the layer."""


@dataclass(frozen=True)
class NamedSide(SideSizes):
    """A side's sizes with the names of its continuous fields, in order."""

    numbers: tuple[str, ...] = ()


@dataclass(frozen=True)
class NamedSizes(Sizes):
    """Sizes with the names of the pair's continuous fields, and the name and rows of each cross, in order."""

    pair_numbers: tuple[str, ...] = ()
    cross_rows: tuple[tuple[str, int], ...] = ()


def axes_of(net: nn.Module) -> dict[str, Axes]:
    """The described dimensions of every parameter of a net that has any, by the parameter's full name."""
    return {
        f"{path}.{name}".lstrip("."): axes
        for path, module in net.named_modules()
        if isinstance(module, Described)
        for name, axes in module.axes().items()
    }


def value_rows(fields: Iterable[FieldSize]) -> tuple[Block, ...]:
    """The rows of fields that lie in one table, a row an id."""
    return tuple(Block(field.name, field.size, Per.VALUE) for field in fields)


def side_numbers(sizes: SideSizes) -> tuple[Block, ...]:
    """A column for each continuous value of a side; told apart by place where the sizes give no names."""
    return _numbers(sizes.numbers if isinstance(sizes, NamedSide) else _places(sizes.dense))


def pair_numbers(sizes: Sizes) -> tuple[Block, ...]:
    """A column for each continuous value of the pair."""
    return _numbers(sizes.pair_numbers if isinstance(sizes, NamedSizes) else _places(sizes.pair_dense))


def cross_rows(sizes: Sizes) -> tuple[Block, ...]:
    """The rows of the crosses' shared table."""
    named = sizes.cross_rows if isinstance(sizes, NamedSizes) else ()
    return tuple(Block(name, rows, Per.KEY) for name, rows in named)


def total(blocks: Sequence[Block]) -> int:
    """How many rows or columns the blocks have together."""
    return sum(block.size for block in blocks)


def _numbers(names: Iterable[str]) -> tuple[Block, ...]:
    return tuple(Block(name, 1, Per.NUMBER) for name in names)


def _places(count: int) -> list[str]:
    return [f"#{place}" for place in range(count)]
