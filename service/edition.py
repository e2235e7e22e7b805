"""The catalogue at one moment, and the next one made of it.

A table's base may be mapped from files and hold a million apps, so nothing here is an object an app but what changed
since the base was built.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.app_table import AppTable
from model.query import App
from service.admission import Entrance
from service.markets import GONE, Codes, Markets
from service.packed import PackedValues, pack, unpacked
from service.store.ports import AppRecord

Rows = npt.NDArray[np.int64]

SPARE_ROWS = 64
"""Outdated rows that a process may hold beside as many as are in use."""

SMALL = 2_000
"""Apps that each process may encode for itself, in about a tenth of a second; more than that get a base in files."""

GROWTH = 0.05
"""Share of a base's rows that may be put beside it before a new base is due."""

COUNTRIES_KEPT = 4
"""Countries whose rows an edition keeps: 8 bytes an app each."""


@dataclass(frozen=True)
class Edition:
    """The catalogue at one moment; a request in flight keeps the one it took.

    codes: (n + 1,) the market of each of the first n rows of the table, GONE where a newer row has taken the place of
    one; the last one is GONE, so that the row -1 of an unknown app reads as no app's. former: of each row beyond the
    table's base, the row that the app had before, -1 for none; like the values it may hold more rows than the edition.
    """

    table: AppTable
    codes: Codes
    markets: Markets
    values: PackedValues
    former: list[int]

    @classmethod
    def empty(cls, table: AppTable) -> "Edition":
        """The edition of a table without rows."""
        return cls(table, np.full(1, GONE, dtype=np.int32), Markets(), PackedValues(), [])

    def __len__(self) -> int:
        return len(self.live_rows)

    @cached_property
    def live_rows(self) -> Rows:
        """(m,) the row of every app, rising."""
        return np.flatnonzero(self.codes != GONE)

    @property
    def beside_base(self) -> Rows:
        """(m,) the rows of apps that lie in the memory of this process alone, rising."""
        return self.live_rows[np.searchsorted(self.live_rows, self.table.base_count) :]

    @property
    def allowance(self) -> int:
        """Apps beside the base that are few enough."""
        return max(SMALL, int(GROWTH * self.table.base_count))

    @property
    def room(self) -> int:
        """Apps that may still be put beside the base while a new one is built."""
        return max(0, 2 * self.allowance - len(self.beside_base))

    def rows_of(self, app_ids: Sequence[str]) -> Rows:
        """(n,) the row that each app has in this edition, -1 where it was never in one."""
        rows = self.table.rows_of(app_ids)
        if len(self.table) >= len(self.codes):
            for place in np.flatnonzero(rows >= len(self.codes) - 1):
                rows[place] = self._row_before(int(rows[place]))
        return rows

    def sold_in(self, country: str | None) -> Rows:
        """(n,) rows of every app that may be shown there, rising."""
        known = country if self.markets.knows(country) else None
        rows = self._sold.get(known)
        if rows is None:
            if len(self._sold) >= COUNTRIES_KEPT:
                self._sold.pop(next(iter(tuple(self._sold))), None)
            rows = self._sold[known] = np.flatnonzero(self.markets.allowed(known)[self.codes])
        return rows

    def compact(self) -> "Edition":
        """The same without the outdated rows beside the base, once there are more of those than of the others."""
        kept, base = self.beside_base, self.table.base_count
        if len(self.table) - base <= 2 * len(kept) + SPARE_ROWS:
            return self
        codes = np.concatenate([self.codes[:base], self.codes[kept], self.codes[-1:]])
        rows = kept.tolist()
        return Edition(self.table.only(rows), codes, self.markets, self.values.only(rows), [-1] * len(rows))

    @cached_property
    def _sold(self) -> dict[str | None, Rows]:
        return {}  # refers to no edition, so that one goes with its table as soon as nobody uses it

    def _row_before(self, row: int) -> int:
        """The row that an app had in this edition which was put again since."""
        while row >= len(self.codes) - 1:
            row = self.former[row - self.table.base_count]
        return row


@dataclass(frozen=True)
class Base:
    """What a shelf begins with: an edition, and the state of the store's catalogue that it holds. See AppChanges."""

    edition: Edition
    sequence: int = 0
    origin: str = ""

    def let_go(self, pause: Callable[[], None]) -> None:
        """Give back what it holds, in small steps with a pause after each, once it serves no more."""
        self.edition.table.let_go(pause)


class Making:
    """The next edition in the making: an app whose values are as they were keeps its row, any other gets a new one.

    entrance: says which of a record's values the schema can encode; room: apps that may be encoded; behind: there were
    more.
    """

    def __init__(self, edition: Edition, entrance: Entrance, *, room: int) -> None:
        self.behind = False
        self._edition = edition
        self._entrance = entrance
        self._room = room
        self._codes: dict[int, int] = {}

    def put(self, records: Sequence[AppRecord]) -> None:
        """Take in a few apps, no app twice in one making."""
        edition = self._edition
        fresh: list[tuple[AppRecord, bytes, int]] = []
        for record, row in zip(records, edition.rows_of([record.id for record in records]).tolist(), strict=True):
            packed = pack(self._entrance.fitting(record.features))
            same = row >= 0 and edition.values.at(row) == packed
            if not same and len(fresh) < self._room:
                fresh.append((record, packed, row))
                continue
            self.behind = self.behind or not same
            if same or edition.codes[row] != GONE:
                self._codes[row] = edition.markets.code(record)
        self._room -= len(fresh)
        self._append(fresh)

    def forget(self, app_ids: Sequence[str]) -> None:
        """Let go of apps, known or not."""
        rows = self._edition.rows_of(app_ids).tolist()
        self._codes.update((row, GONE) for row in rows if row >= 0)

    def made(self) -> Edition:
        """The edition with all of it."""
        codes = np.full(len(self._edition.table) + 1, GONE, dtype=np.int32)
        before = self._edition.codes[:-1]
        codes[: len(before)] = before
        rows = np.fromiter(self._codes, dtype=np.int64, count=len(self._codes))
        codes[rows] = np.fromiter(self._codes.values(), dtype=np.int32, count=len(self._codes))
        return replace(self._edition, codes=codes)

    def _append(self, fresh: Sequence[tuple[AppRecord, bytes, int]]) -> None:
        """Give new rows to records, each with its packed values and the row that it had."""
        edition, first = self._edition, len(self._edition.table)
        # Before the table names the new rows, since whoever has taken an older edition must find its own from there.
        edition.former.extend(row for _, _, row in fresh)
        edition.values.add([packed for _, packed, _ in fresh])
        edition.table.put([App(record.id, unpacked(packed)) for record, packed, _ in fresh])
        self._codes.update((row, GONE) for _, _, row in fresh if row >= 0)
        self._codes.update((first + place, edition.markets.code(one[0])) for place, one in enumerate(fresh))
