"""Cross-product features: the AND of two or more fields as a row of one shared table of weights.

Each side hashes its own fields once; a two-sided cross is the XOR of the two halves, so that N candidates cost one
XOR and one look-up each. A hashed cross keeps the low bits; an exact one looks the 64-bit key up among those that
training saw often enough (two keys of a million meet with a chance of about 3e-8).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import accumulate
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.batch import Bag, Side
from model.schema import CrossSpec, FeatureSchema, Kind, Source
from model.vocabulary import Vocabulary

MIX = -7046029254386353131  # 2^64 divided by the golden ratio, odd: spreads a hash before the next is added


@dataclass(frozen=True)
class CrossTable:
    """Where one cross lives in the shared table: its first row, its rows, and its keys where it is exact."""

    spec: CrossSpec
    first: int
    size: int
    keys: Tensor | None

    def rows(self, keys: Tensor) -> Tensor:
        """The table's rows for 64-bit keys of any shape; an exact cross sends an unseen key to its first row."""
        if self.keys is None:
            return (keys & (self.size - 1)) + self.first
        if not self.keys.numel():
            return torch.full_like(keys, self.first)
        places = torch.searchsorted(self.keys, keys).clamp_(max=self.keys.numel() - 1)
        return torch.where(self.keys[places] == keys, places + 1, 0) + self.first


@dataclass(frozen=True)
class Crosses:
    """All crosses of a schema over fitted vocabularies.

    seen: the kept 64-bit keys of each exact cross by name; stored: `Vocabulary.hashes` by name where they were read
    from a file, since to hash every value again is what takes longest when a bundle is loaded.
    """

    schema: FeatureSchema
    vocabularies: Mapping[str, Vocabulary]
    seen: Mapping[str, npt.NDArray[np.int64]]
    stored: Mapping[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    @cached_property
    def tables(self) -> tuple[CrossTable, ...]:
        """One per cross, in the schema's order."""
        sizes = [len(self.seen[c.name]) + 1 if c.exact else 2**c.bits for c in self.schema.crosses]
        firsts = [0, *accumulate(sizes)]
        keys = [torch.from_numpy(self.seen[c.name]) if c.exact else None for c in self.schema.crosses]
        return tuple(map(CrossTable, self.schema.crosses, firsts, sizes, keys))

    @property
    def table_size(self) -> int:
        """Rows of the shared table."""
        return sum(table.size for table in self.tables)

    def within(self, side: Side, *, request: bool) -> Side:
        """The side with its one-sided crosses as table rows and its half of each two-sided cross as keys."""
        crosses: list[Bag] = []
        keys: list[Bag] = []
        for table in self.tables:
            mine, all_mine = self._places(table.spec, request=request)
            if mine:
                bag = self._keys(side, mine)
                (crosses if all_mine else keys).append(Bag(table.rows(bag.values), bag.offsets) if all_mine else bag)
        return replace(side, crosses=tuple(crosses), keys=tuple(keys))

    def between(self, request: Side, app: Side) -> tuple[Bag, ...]:
        """Table rows of every two-sided cross for N candidates of one request, or of N requests row by row."""
        met = [_meet(mine, theirs.values) for mine, theirs in zip(request.keys, app.keys, strict=True)]
        return tuple(Bag(table.rows(bag.values), bag.offsets) for table, bag in zip(self._two_sided, met, strict=True))

    def exact_keys(self, request: Side, app: Side) -> dict[str, Bag]:
        """The 64-bit keys of every exact cross by name, for B requests and B apps row by row."""
        met = map(_meet, request.keys, (bag.values for bag in app.keys))
        keys = {table.spec.name: bag for table, bag in zip(self._two_sided, met, strict=True) if table.spec.exact}
        for side, is_request in ((request, True), (app, False)):
            for cross in self.schema.crosses:
                mine, all_mine = self._places(cross, request=is_request)
                if cross.exact and all_mine:
                    keys[cross.name] = self._keys(side, mine)
        return keys

    @cached_property
    def _two_sided(self) -> tuple[CrossTable, ...]:
        return tuple(table for table in self.tables if len({self._columns[n][0] for n in table.spec.fields}) == 2)

    def to_arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The keys of the exact crosses and the hashes of the crossed fields' values, by name."""
        keys = {f"cross.{name}": keys for name, keys in self.seen.items()}
        return keys | {f"hashes.{name}": hashes.numpy() for name, hashes in self.hashes.items()}

    @classmethod
    def from_arrays(
        cls, schema: FeatureSchema, vocabularies: Mapping[str, Vocabulary], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> "Crosses":
        """Undo `to_arrays`; hashes may be absent, as in the bundles of older releases. Raises ValueError."""
        seen = {c.name: np.asarray(arrays[f"cross.{c.name}"], dtype=np.int64) for c in schema.crosses if c.exact}
        stored = {name: arrays[f"hashes.{name}"] for name in vocabularies if f"hashes.{name}" in arrays}
        for name, hashes in stored.items():
            if hashes.shape != (size := (vocabularies[name].size,)) or hashes.dtype != np.int64:
                raise ValueError(f"hashes of {name!r}: {hashes.dtype} {hashes.shape} where int64 {size} belongs")
        return cls(schema, vocabularies, seen, stored)

    def _keys(self, side: Side, names: Sequence[tuple[str, Kind, int]]) -> Bag:
        bag: Bag | None = None
        single = torch.zeros(len(side), dtype=torch.int64)
        for name, kind, place in names:
            hashes = self.hashes[name]
            if kind is Kind.MULTI:
                bag = Bag(hashes[side.bags[place].values], side.bags[place].offsets)
            else:
                single = single * MIX + hashes[side.ids[:, place]]
        if bag is None:
            return Bag(single, torch.arange(len(side)))
        return Bag(bag.values * MIX + single.repeat_interleave(bag.lengths), bag.offsets)

    def _places(self, cross: CrossSpec, *, request: bool) -> tuple[list[tuple[str, Kind, int]], bool]:
        """This side's fields of a cross as (name, kind, place within its kind), and whether they are all of it."""
        mine = [(name, *self._columns[name][1:]) for name in cross.fields if self._columns[name][0] is request]
        return mine, len(mine) == len(cross.fields)

    @cached_property
    def _columns(self) -> dict[str, tuple[bool, Kind, int]]:
        columns = {}
        for sources in ((Source.USER, Source.CONTEXT, Source.HISTORY), (Source.APP,)):
            for kind in (Kind.CATEGORICAL, Kind.MULTI):
                for place, spec in enumerate(self.schema.of(*sources, kind=kind)):
                    columns[spec.name] = (Source.APP not in sources, kind, place)
        return columns

    @cached_property
    def hashes(self) -> dict[str, Tensor]:
        """`Vocabulary.hashes` of each crossed field by name."""
        crossed = dict.fromkeys(name for cross in self.schema.crosses for name in cross.fields)
        return {
            name: torch.from_numpy(self.stored[name] if name in self.stored else self.vocabularies[name].hashes)
            for name in crossed
        }


def _meet(mine: Bag, theirs: Tensor) -> Bag:
    if mine.offsets.numel() == 1:
        keys = (theirs[:, None] ^ mine.values).flatten()
        return Bag(keys, torch.arange(theirs.numel()) * mine.values.numel())
    return Bag(theirs.repeat_interleave(mine.lengths) ^ mine.values, mine.offsets)
