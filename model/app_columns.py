"""What a table holds of each app, as tensors with a row an app, and what is taken of them to score N candidates."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import Bag, Side
from model.halves import join, split
from model.layers import Part
from model.population import NOWHERE
from model.query import App

PART, UPPER, LOWER = "part.", ".hi", ".lo"
KEYS, OTHERS, ORDINALS = "keys", "others", "ordinals"

Columns = Mapping[str, Tensor]
"""By name: `part.x`, or `part.x.hi` and `part.x.lo` where it is kept in halves, `keys`, `others`, maybe `ordinals`."""


@dataclass(frozen=True)
class AppSide:
    """How apps become rows of a table.

    encode: the side and the net's app part of some apps; halved: the parts that `fast` may read as bfloat16, kept in
    halves (see `model.halves`); audience: how many users each app is known to have; ordinals: those of a population
    that the net's pair numbers are read from, None where they are not.
    """

    encode: Callable[[Sequence[App]], tuple[Side, Part]]
    halved: frozenset[str]
    audience: Mapping[str, int]
    ordinals: Mapping[str, int] | None = None

    @property
    def needed(self) -> frozenset[str]:
        """Columns that every table of this net has."""
        own = (KEYS, OTHERS) if self.ordinals is None else (KEYS, OTHERS, ORDINALS)
        return frozenset({*own, *(PART + name + half for name in self.halved for half in (UPPER, LOWER))})

    def columns(self, apps: Sequence[App]) -> dict[str, Tensor]:
        """The rows of these apps, one after the other."""
        side, part = self.encode(apps)
        columns: dict[str, Tensor] = {}
        for name, values in part.items():
            if name in self.halved:
                columns[PART + name + UPPER], columns[PART + name + LOWER] = split(values)
            else:
                columns[PART + name] = values
        keys = [bag.values for bag in side.keys]
        columns[KEYS] = torch.stack(keys, 1) if keys else torch.empty((len(apps), 0), dtype=torch.int64)
        columns[OTHERS] = torch.tensor([self.audience.get(app.id, 0) for app in apps], dtype=torch.float64)
        if self.ordinals is not None:
            columns[ORDINALS] = torch.tensor([self.ordinals.get(app.id, NOWHERE) for app in apps], dtype=torch.int64)
        return columns


@dataclass(frozen=True)
class Gathered:
    """N rows of a table.

    part: the net's app part, (N, ...) each; keys: (N, C) int64, the apps' half of each two-sided cross in the
    schema's order; others: (N,) float64, how many users each app is known to have; ordinals: (N,) int64, see `AppSide`.
    """

    part: Part
    keys: Tensor
    others: Tensor
    ordinals: Tensor | None = None

    @property
    def side(self) -> Side:
        """The keys alone as a side of N apps, for the crosses."""
        ids, each = torch.empty((len(self.keys), 0), dtype=torch.int64), torch.arange(len(self.keys))
        return Side(ids, ids.float(), keys=tuple(Bag(key, each) for key in self.keys.unbind(1)))


def gathered(names: Collection[str], take: Callable[[str], Tensor], *, exact: bool | None) -> Gathered:
    """What `take` picks of the columns of these names; exact: every part in fp32, else the halved ones as bfloat16.

    Where exact is None, without the halved ones.
    """
    part = {}
    for name in names:
        if name.startswith(PART) and name.endswith(UPPER) and exact is not None:
            whole = name.removeprefix(PART).removesuffix(UPPER)
            part[whole] = halved(whole, take, exact=exact)
        elif name.startswith(PART) and not name.endswith((UPPER, LOWER)):
            part[name.removeprefix(PART)] = take(name)
    return Gathered(part, take(KEYS), take(OTHERS), take(ORDINALS) if ORDINALS in names else None)


def halved(name: str, take: Callable[[str], Tensor], *, exact: bool) -> Tensor:
    """The app part `name`, which is kept in halves: joined, or the upper ones alone as bfloat16."""
    upper = take(PART + name + UPPER)
    return join(upper, take(PART + name + LOWER)) if exact else upper


def picked(column: Tensor, rows: Tensor) -> Tensor:
    """The rows (N,) of a column, bit for bit."""
    return column.index_select(0, rows)


def fetched(column: Tensor, rows: Tensor) -> Tensor:
    """The rows (N,) of a column of numbers, through a kernel that fetches ahead, since rows lie far apart in memory.

    It adds each to zero, so that a negative zero comes back as zero: not for a half that is to be joined.
    """
    if column.dim() != 2:
        return picked(column, rows)
    return F.embedding_bag(rows, column, torch.arange(len(rows)), mode="sum")
