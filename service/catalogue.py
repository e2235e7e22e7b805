"""The catalogue as one scorer sees it: which app is which row of its table, and who may be shown it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import msgspec
import numpy as np
import numpy.typing as npt

from model.app_table import AppTable
from model.query import App, Value
from model.schema import FeatureSchema, Source
from service.admission import fitting, settable
from service.store.ports import AppChanges, AppRecord

Rows = npt.NDArray[np.int64]

SPARE_ROWS = 64
"""Outdated rows that a table may hold beside as many as it has apps."""

SHOWN_APPS = 10_000
"""Apps whose values are kept unpacked, those shown last; whoever logs what was shown shares them."""


@dataclass(frozen=True)
class Stock:
    """The catalogue at one moment; a request in flight keeps the one it took.

    rows: app id to its row of the scorer's table; unavailable: ids that nobody may see; limited: id to the countries
    that alone may see it.
    """

    rows: Mapping[str, int]
    unavailable: frozenset[str]
    limited: Mapping[str, frozenset[str]]

    def sells(self, app_id: str, country: str | None) -> bool:
        """True where the app may be shown; an app limited to countries is not shown where the country is unknown."""
        return app_id not in self.unavailable and (app_id not in self.limited or country in self.limited[app_id])

    def sold_in(self, country: str | None) -> Rows:
        """(n,) rows of every app that may be shown there."""
        local = self._local.get(country or "")
        return self._everywhere if local is None else np.concatenate([self._everywhere, local])

    @cached_property
    def _everywhere(self) -> Rows:
        held_back = self.unavailable | self.limited.keys()
        return _rows(row for app_id, row in self.rows.items() if app_id not in held_back)

    @cached_property
    def _local(self) -> dict[str, Rows]:
        rows: dict[str, list[int]] = {}
        for app_id, countries in self.limited.items():
            if app_id not in self.unavailable:
                for country in countries:
                    rows.setdefault(country, []).append(self.rows[app_id])
        return {country: _rows(found) for country, found in rows.items()}


@dataclass(frozen=True)
class Edition:
    """The catalogue at one moment as one scorer sees it: each app's row of the table, and the values encoded there.

    values: app id to its features that fit the schema, packed, since most of them are never looked at; unpack: what
    is in them, not to be changed.
    """

    table: AppTable
    stock: Stock
    values: Mapping[str, bytes]
    unpack: Callable[[bytes], Mapping[str, Value]]


@dataclass(frozen=True)
class Selection:
    """The candidates of one request. rows: (N,) of its edition's table, no row twice."""

    rows: Rows
    edition: Edition
    unknown: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()

    @property
    def table(self) -> AppTable:
        """The table that `rows` are of, whatever the shelf has come to since."""
        return self.edition.table

    def features_of(self, app_id: str) -> Mapping[str, Value]:
        """The values that an app of the selection is scored with."""
        return self.edition.unpack(self.edition.values[app_id])


class Shelf:
    """A scorer's app table with what the store says of each app; one thread refreshes it, any number read it."""

    def __init__(self, table: AppTable, schema: FeatureSchema) -> None:
        self.sequence, self.origin = 0, ""
        self._fields = settable(schema, Source.APP)
        self._edition = Edition(table, Stock({}, frozenset(), {}), {}, lru_cache(SHOWN_APPS)(_unpacked))

    def refresh(self, changes: AppChanges) -> None:
        """Take in what the store changed: encode what is new of it, forget the deleted, then show all of it at once."""
        if changes.put or changes.deleted:
            self._edition = _compact(self._changed(changes.put, frozenset(changes.deleted)))
        self.sequence, self.origin = changes.sequence, changes.origin

    def select(
        self, candidates: Sequence[str] | None, *, country: str | None, without: frozenset[str] = frozenset()
    ) -> Selection:
        """Look up the candidates given, or take all that is sold in the country; `without` is never among them."""
        edition = self._edition
        stock = edition.stock
        if candidates is None:
            return Selection(_less(stock.sold_in(country), stock.rows, without), edition)
        asked = dict.fromkeys(candidates)
        known = [app_id for app_id in asked if app_id in stock.rows]
        shown = [app_id for app_id in known if app_id not in without and stock.sells(app_id, country)]
        return Selection(
            _rows(stock.rows[app_id] for app_id in shown),
            edition,
            unknown=_left(asked, known),
            unavailable=_left(known, shown),
            doubled=_doubled(candidates, asked),
        )

    def __contains__(self, app_id: str) -> bool:
        return app_id in self._edition.stock.rows

    def __iter__(self) -> Iterator[str]:
        return iter(self._edition.stock.rows)

    def __len__(self) -> int:
        return len(self._edition.stock.rows)

    def _changed(self, put: Sequence[AppRecord], deleted: frozenset[str]) -> Edition:
        """The next edition: an app whose values are as they were keeps its row, any other gets a new one."""
        table, old = self._edition.table, self._edition.values
        values = {record.id: _packed(fitting(record.features, self._fields)) for record in put}
        fresh = {app_id: packed for app_id, packed in values.items() if old.get(app_id) != packed}
        table.put([App(app_id, _unpacked(packed)) for app_id, packed in fresh.items()])
        kept = {app_id: packed for app_id, packed in old.items() if app_id not in deleted}
        stock = _restocked(self._edition.stock, put, deleted)
        rows = {app_id: row for app_id, row in stock.rows.items() if app_id not in deleted}
        rows |= {app_id: table.index[app_id] for app_id in fresh}
        return replace(self._edition, stock=replace(stock, rows=rows), values=kept | fresh)


def _unpacked(values: bytes) -> dict[str, Value]:
    """The values of one app of an edition."""
    features: dict[str, Value] = msgspec.json.decode(values)
    return features


def _packed(features: Mapping[str, Value]) -> bytes:
    return msgspec.json.encode(features, order="sorted")


def _restocked(old: Stock, put: Sequence[AppRecord], deleted: frozenset[str]) -> Stock:
    """Where each app may be shown now; its rows are still the old ones."""
    touched = deleted | {record.id for record in put}
    limited = {app_id: countries for app_id, countries in old.limited.items() if app_id not in touched}
    return Stock(
        old.rows,
        (old.unavailable - touched) | {record.id for record in put if not record.available},
        limited | {record.id: frozenset(record.countries) for record in put if record.countries},
    )


def _compact(edition: Edition) -> Edition:
    """The same over a table without outdated rows, once there are more of those than apps."""
    rows = edition.stock.rows
    if len(edition.table) <= 2 * len(rows) + SPARE_ROWS:
        return edition
    table = edition.table.only(list(rows.values()))
    return replace(
        edition, table=table, stock=replace(edition.stock, rows={app_id: table.index[app_id] for app_id in rows})
    )


def _rows(rows: Iterable[int]) -> Rows:
    return np.fromiter(rows, dtype=np.int64)


def _less(rows: Rows, index: Mapping[str, int], without: frozenset[str]) -> Rows:
    dropped = [index[app_id] for app_id in without if app_id in index]
    return rows[~np.isin(rows, dropped)] if dropped else rows


def _left(before: Iterable[str], after: Iterable[str]) -> tuple[str, ...]:
    kept = set(after)
    return tuple(app_id for app_id in before if app_id not in kept)


def _doubled(candidates: Sequence[str], asked: Mapping[str, None]) -> tuple[str, ...]:
    if len(candidates) == len(asked):
        return ()
    return tuple(app_id for app_id, times in Counter(candidates).items() if times > 1)
