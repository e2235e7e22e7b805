"""Which apps users have together, as it was known before each of some moments: what SIMILAR is computed from.

A row knows what users had before the last moment that it does not precede, so that no row sees its own event or a
later one. Between two moments its knowledge grows old, as that of a served version does.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import polars as pl

from model.population import MOST_APPS, NOWHERE, Floats, Ints, Mask, Neighbours, settled, shares

PAIRS_AT_ONCE = 2_000_000
PAIRS_IN_ALL = 1 << 27
"""Pairs of apps of one user that are counted, for 1 GB at most; of a log with more, every so many-th user's are."""

PAIRS_KEPT = 1 << 23
LEAST_NEIGHBOURS = 100
"""Where there are so many apps that PAIRS_KEPT would leave each fewer, each keeps these."""


@dataclass(frozen=True)
class Entries:
    """E apps of the histories of B rows, each beside its row's own app.

    row, own, other, window: (E,) int64, apps by ordinal; own_had, other_had: (E,) whether the row's user is among
    those who were counted for the app.
    """

    row: Ints
    own: Ints
    other: Ints
    window: Ints
    own_had: Mask
    other_had: Mask

    def only(self, kept: Mask) -> "Entries":
        """Those that are kept (E,)."""
        return Entries(*(part[kept] for part in vars(self).values()))


@dataclass(frozen=True)
class Together:
    """How many users had each pair of A apps, and each app, by window.

    bounds: (W,) int64 ascending moments; in window k is known what was before bounds[k - 1], in window W + 1 all.
    users: (A, W + 2) int64 who have an app, by window; keys: (n,) int64 ascending, a pair of apps and the moments that
    had passed when so many more users had it; sums: (n + 1,) int64, of the users of the keys before each.
    """

    bounds: Ints
    users: Ints
    keys: Ints
    sums: Ints

    @classmethod
    def of(cls, first: pl.DataFrame, bounds: Ints, *, apps: int) -> "Together":
        """first: which user had which app (its ordinal) from when on (at), all int64; see `counted`."""
        passed = pl.Series("passed", np.searchsorted(bounds, first["at"].to_numpy(), side="right"))
        whose = first.select("user", "app", passed).sort("user", "app")
        users = np.zeros((apps, len(bounds) + 2), dtype=np.int64)
        np.add.at(users, (whose["app"].to_numpy(), whose["passed"].to_numpy() + 1), 1)
        keys, counts = _merged(_pair_keys(part, apps, len(bounds) + 1) for part in _by_users(whose))
        found = cls(bounds, users.cumsum(1), keys, _sums(counts))
        return found.nearest(max(LEAST_NEIGHBOURS, PAIRS_KEPT // max(apps, 1)))

    def windows(self, at: Ints) -> Ints:
        """(B,) the window of each moment."""
        return np.searchsorted(self.bounds, at, side="right")

    @property
    def last(self) -> int:
        """The window in which all is known."""
        return len(self.bounds) + 1

    def similar(self, entries: Entries, *, rows: int) -> Floats:
        """(B,) what `Neighbours.similar` would give each of B = `rows` rows, were it served in the row's window."""
        few = np.bincount(entries.row, minlength=rows) <= MOST_APPS
        other = entries.only((entries.other != entries.own) & (entries.other != NOWHERE))
        users = self.users[other.other, other.window]
        both = self._both(other)
        both = both - (other.own_had & other.other_had & (both > 0))
        total = np.bincount(other.row, both * shares(users - other.other_had), minlength=rows)
        apps = np.bincount(other.row, users > 0, minlength=rows)
        return settled(np.where(few, total / np.maximum(apps, 1), 0.0))

    def neighbours(self) -> Neighbours:
        """All of it, to be served from."""
        low, high, both = self._pairs()
        apps, near = np.concatenate([low, high]), np.concatenate([high, low])
        order = np.lexsort((near, apps))
        starts = np.searchsorted(apps[order], np.arange(len(self.users) + 1))
        counts = np.tile(both, 2)[order].astype(np.int32)
        return Neighbours(self.users[:, -1].copy(), starts, near[order].astype(np.int32), counts)

    def nearest(self, most: int) -> "Together":
        """The pairs alone in which one app is among the `most` that are nearest to the other in the end, by cosine."""
        low, high, both = self._pairs()
        cosine = np.tile(both / np.sqrt(self.users[low, -1] * self.users[high, -1]), 2)
        apps, pairs = np.concatenate([low, high]), np.tile(np.arange(len(low)), 2)
        order = np.lexsort((pairs, -cosine, apps))
        place = np.arange(len(order)) - np.searchsorted(apps[order], apps[order])
        if not (place >= most).any():
            return self
        kept = np.zeros(len(low), dtype=np.bool_)
        kept[pairs[order[place < most]]] = True
        stays = kept[np.searchsorted(low * len(self.users) + high, self.keys // self.last)]
        return replace(self, keys=self.keys[stays], sums=_sums(np.diff(self.sums)[stays]))

    def _both(self, entries: Entries) -> Ints:
        """(E,) users who had both apps, by window."""
        low, high = np.minimum(entries.own, entries.other), np.maximum(entries.own, entries.other)
        pair = (low * len(self.users) + high) * self.last
        first, last = np.searchsorted(self.keys, pair), np.searchsorted(self.keys, pair + entries.window)
        return np.where(low == NOWHERE, 0, self.sums[last] - self.sums[first])

    def _pairs(self) -> tuple[Ints, Ints, Ints]:
        """Every pair, the lower ordinal first, and how many users have both in the end."""
        pairs, begins = np.unique(self.keys // self.last, return_index=True)
        ends = np.append(begins[1:], len(self.keys)).astype(np.int64)
        return pairs // len(self.users), pairs % len(self.users), self.sums[ends] - self.sums[begins]


def counted(first: pl.DataFrame) -> pl.DataFrame:
    """(user, app, at): those whose pairs are counted, without users of more than MOST_APPS apps."""
    apps = pl.len().over("user")
    few = first.filter(apps <= MOST_APPS)
    pairs = int(few.group_by("user").len("apps").select((pl.col("apps").cast(pl.Int64) ** 2).sum()).item() or 0) // 2
    return few.filter(pl.col("user") % (pairs // PAIRS_IN_ALL + 1) == 0)


def _by_users(whose: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """The rows of some users at a time, whose pairs are not too many together."""
    sizes = whose.group_by("user", maintain_order=True).len("apps")["apps"].to_numpy().astype(np.int64)
    part = (sizes**2).cumsum() // PAIRS_AT_ONCE
    ends = np.append(np.flatnonzero(np.diff(part)) + 1, len(sizes)) if len(sizes) else np.empty(0, dtype=np.int64)
    rows, start = sizes.cumsum(), 0
    for end in rows[ends - 1].tolist():
        yield whose[start:end]
        start = end


def _pair_keys(whose: pl.DataFrame, apps: int, step: int) -> tuple[Ints, Ints]:
    """The keys of all pairs of apps that one user had, ascending, and of how many users each is."""
    pairs = whose.join(whose, on="user", suffix="_other").filter(pl.col("app") < pl.col("app_other"))
    pair = pl.col("app") * apps + pl.col("app_other")
    keys = pairs.select(pair * step + pl.max_horizontal("passed", "passed_other")).to_series().to_numpy()
    return np.unique(keys, return_counts=True)


def _merged(parts: Iterable[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    """The keys of all parts, ascending, their counts added up; never much more than these are held at once."""
    keys = counts = np.empty(0, dtype=np.int64)
    held: list[tuple[Ints, Ints]] = []
    for part in parts:
        held.append(part)
        if sum(len(one[0]) for one in held) > max(len(keys), PAIRS_AT_ONCE):
            keys, counts = _added([(keys, counts), *held])
            held = []
    return _added([(keys, counts), *held])


def _added(parts: list[tuple[Ints, Ints]]) -> tuple[Ints, Ints]:
    keys, counts = (np.concatenate(one) for one in zip(*parts, strict=True))
    order = np.argsort(keys, kind="stable")
    distinct, begins = np.unique(keys[order], return_index=True)
    return distinct, np.add.reduceat(counts[order], begins) if len(begins) else counts


def _sums(counts: Ints) -> Ints:
    return np.concatenate([[0], counts.cumsum()]).astype(np.int64)
