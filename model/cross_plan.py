"""The two-sided crosses of many candidates in a few steps over all of them, instead of a few over each cross.

A request's key of a cross is a sum: each of its fields adds the hash of its value times a power of MIX, modulo 2^64.
So what one field adds to all keys can be kept, and the keys of a request are the sum of its fields'. What the apps
bring is one matrix, and the rows of the cross table are its XOR with the request's keys, masked and shifted.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.batch import Bag
from model.crosses import MIX, Crosses, CrossTable
from model.request_fields import Code, RequestField
from model.schema import Kind, Source

Keys = npt.NDArray[np.int64]


class EvenBag(Bag):
    """Bags that hold equally many ids each."""

    @classmethod
    def of(cls, rows: Tensor) -> "EvenBag":
        """The rows (N, V) of a matrix as bags."""
        return cls(rows.reshape(-1), torch.arange(rows.shape[0]) * rows.shape[1])


@dataclass(frozen=True)
class KeyShare:
    """What some fields of a request add to its keys of C crosses.

    single: (C,) to the key of each cross; multi: by a cross's place, the (V,) keys that a multi-valued field makes.
    """

    single: Keys
    multi: Mapping[int, Keys] = field(default_factory=dict)

    @classmethod
    def total(cls, shares: Sequence["KeyShare"]) -> "KeyShare":
        """What they add together; a multi-valued field is in one of them alone."""
        single = shares[0].single.copy()
        for share in shares[1:]:
            single += share.single
        return cls(single, {place: keys for share in shares for place, keys in share.multi.items()})


@dataclass(frozen=True, eq=False)
class KeyLayout:
    """How the V keys of a request become rows of the cross table.

    columns: (V,) which of C crosses each is of, None where each cross has one; mask, first: (V,) what a key is cut to
    and where its cross begins; exact: the crosses whose keys are looked up, and where theirs stand.
    """

    columns: Tensor | None
    mask: Tensor
    first: Tensor
    exact: tuple[tuple[CrossTable, slice], ...]

    def spread(self, theirs: Tensor) -> Tensor:
        """(N, V): the apps' halves (N, C), once for every key that they meet."""
        return theirs if self.columns is None else theirs.index_select(1, self.columns)

    def rows(self, keys: Tensor) -> Tensor:
        """(N, V) rows of the cross table for keys (N, V), which are overwritten."""
        found = [(span, table.rows(keys[:, span].contiguous())) for table, span in self.exact]
        keys.bitwise_and_(self.mask).add_(self.first)
        for span, rows in found:
            keys[:, span] = rows
        return keys


@dataclass(frozen=True)
class RequestKeys:
    """One request's half of C crosses: V keys in the crosses' order; a cross of a multi-valued field has several."""

    mine: Keys
    layout: KeyLayout


class CrossPlan:
    """How the fields of a request make its keys of some crosses."""

    def __init__(self, crosses: Crosses, tables: Sequence[CrossTable]) -> None:
        self._tables = tables
        self._hashes = {name: hashes.numpy() for name, hashes in crosses.hashes.items()}
        self._powers: dict[str, Keys] = {}
        self._multi: dict[str, list[int]] = {}
        multi = {one.name for one in crosses.schema.fields if one.kind is Kind.MULTI}
        apps = crosses.schema.from_source(Source.APP)
        for place, table in enumerate(tables):
            mine = [name for name in table.spec.fields if name not in apps]
            single = [name for name in mine if name not in multi]
            for power, name in enumerate(reversed(single)):
                self._powers.setdefault(name, self._zeros())[place] += _wrapped(MIX**power)
            for name in set(mine) - set(single):
                self._multi.setdefault(name, []).append(place)
        self._places = np.arange(len(tables))
        self._mask = np.array([table.size - 1 for table in tables], dtype=np.int64)
        self._first = np.array([table.first for table in tables], dtype=np.int64)
        self._plain = self._layout(None, [*self._places.tolist(), len(tables)])

    def share(self, codes: Mapping[RequestField, Code]) -> KeyShare:
        """What fields with these codes add."""
        single, multi = self._zeros(), {}
        for one, code in codes.items():
            name = one.spec.name
            if name in self._powers:
                single += self._powers[name] * self._hashes[name][code]
            for place in self._multi.get(name, ()):
                multi[place] = self._hashes[name][list(one.ids(code))] * MIX
        return KeyShare(single, multi)

    def rows(self, share: KeyShare) -> Tensor:
        """(V,) rows of the cross table, for crosses that no app's field is in."""
        keys = self.keys(share)
        return keys.layout.rows(torch.from_numpy(keys.mine[None].copy()))[0]

    def keys(self, share: KeyShare) -> RequestKeys:
        """The keys that all fields of a request add up to."""
        if not self._multi:
            return RequestKeys(share.single, self._plain)
        parts = [share.multi.get(place, 0) + share.single[place : place + 1] for place in self._places.tolist()]
        columns = np.repeat(self._places, [len(part) for part in parts])
        bounds = np.searchsorted(columns, [*self._places, len(parts)]).tolist()
        return RequestKeys(np.concatenate(parts), self._layout(columns, bounds))

    def __len__(self) -> int:
        return len(self._tables)

    def _layout(self, columns: Keys | None, bounds: Sequence[int]) -> KeyLayout:
        """columns: which cross each key is of; bounds: where the keys of each begin, and the end."""
        spans = zip(self._tables, map(slice, bounds, bounds[1:]), strict=False)
        exact = tuple((table, span) for table, span in spans if table.spec.exact)
        each = self._places if columns is None else columns
        place = None if columns is None else torch.from_numpy(columns)
        return KeyLayout(place, torch.from_numpy(self._mask[each]), torch.from_numpy(self._first[each]), exact)

    def _zeros(self) -> Keys:
        return np.zeros(len(self._tables), dtype=np.int64)


def two_sided(crosses: Crosses) -> tuple[CrossTable, ...]:
    """The crosses of a request's fields with an app's, in the schema's order: those whose halves sides keep as keys."""
    apps = crosses.schema.from_source(Source.APP).keys()
    return tuple(table for table in crosses.tables if apps & {*table.spec.fields} and {*table.spec.fields} - apps)


def request_sided(crosses: Crosses) -> tuple[CrossTable, ...]:
    """The crosses of a request's fields among themselves."""
    apps = crosses.schema.from_source(Source.APP).keys()
    return tuple(table for table in crosses.tables if not apps & {*table.spec.fields})


def met(requests: Sequence[RequestKeys], theirs: Tensor, counts: Sequence[int]) -> Bag:
    """Rows of the cross table, a bag a candidate, for the halves (N, C) of the apps of several requests in turn.

    counts: how many apps are of each request. `theirs` may be overwritten.
    """
    layout = requests[0].layout
    if all(one.layout is layout for one in requests):
        return EvenBag.of(layout.rows(_xored(requests, layout.spread(theirs), counts)))
    parts = torch.split_with_sizes(theirs, [*counts])
    alone = [met([one], part, [len(part)]) for one, part in zip(requests, parts, strict=True)]
    starts = np.cumsum([0, *(len(bag.values) for bag in alone)]).tolist()
    offsets = [bag.offsets + start for bag, start in zip(alone, starts, strict=False)]
    return Bag(torch.cat([bag.values for bag in alone]), torch.cat(offsets))


def _xored(requests: Sequence[RequestKeys], keys: Tensor, counts: Sequence[int]) -> Tensor:
    mine = torch.from_numpy(np.stack([one.mine for one in requests]))
    for row, part in zip(mine, torch.split_with_sizes(keys, [*counts]), strict=True):
        part.bitwise_xor_(row)
    return keys


def _wrapped(number: int) -> np.int64:
    """An integer modulo 2^64, as a signed one."""
    return np.uint64(number % 2**64).astype(np.int64)
