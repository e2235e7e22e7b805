"""The catalogue as one scorer sees it: which app is which row of its table, and who may be shown it."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.app_table import AppTable
from model.query import App
from model.schema import FeatureSchema, Source
from service.admission import fitting, settable
from service.store.ports import AppChanges, AppRecord

Rows = npt.NDArray[np.int64]


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
class Selection:
    """The candidates of one request. rows: (N,) of the scorer's table, no row twice."""

    rows: Rows
    unknown: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()


class Shelf:
    """A scorer's app table with what the store says of each app; one thread refreshes it, any number read it."""

    def __init__(self, table: AppTable, schema: FeatureSchema) -> None:
        self.table = table
        self.sequence = 0
        self._fields = settable(schema, Source.APP)
        self._stock = Stock({}, frozenset(), {})

    def refresh(self, changes: AppChanges) -> None:
        """Take in what the store changed: encode the apps put, forget the deleted, then show all of it at once."""
        if changes.put or changes.deleted:
            self.table.put([App(record.id, fitting(record.features, self._fields)) for record in changes.put])
            self._stock = self._changed(changes.put, frozenset(changes.deleted))
        self.sequence = changes.sequence

    def select(
        self, candidates: Sequence[str] | None, *, country: str | None, without: frozenset[str] = frozenset()
    ) -> Selection:
        """Look up the candidates given, or take all that is sold in the country; `without` is never among them."""
        stock = self._stock
        if candidates is None:
            return Selection(_less(stock.sold_in(country), stock.rows, without))
        asked = dict.fromkeys(candidates)
        known = [app_id for app_id in asked if app_id in stock.rows]
        shown = [app_id for app_id in known if app_id not in without and stock.sells(app_id, country)]
        return Selection(
            _rows(stock.rows[app_id] for app_id in shown),
            unknown=_left(asked, known),
            unavailable=_left(known, shown),
            doubled=_doubled(candidates, asked),
        )

    def __contains__(self, app_id: str) -> bool:
        return app_id in self._stock.rows

    def __len__(self) -> int:
        return len(self._stock.rows)

    def _changed(self, put: Sequence[AppRecord], deleted: frozenset[str]) -> Stock:
        old = self._stock
        touched = deleted | {record.id for record in put}
        limited = {app_id: countries for app_id, countries in old.limited.items() if app_id not in touched}
        rows = {app_id: row for app_id, row in old.rows.items() if app_id not in deleted}
        return Stock(
            rows | {record.id: self.table.index[record.id] for record in put},
            (old.unavailable - touched) | {record.id for record in put if not record.available},
            limited | {record.id: frozenset(record.countries) for record in put if record.countries},
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
