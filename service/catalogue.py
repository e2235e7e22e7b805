"""The catalogue as one scorer sees it: which app is which row of its table, and who may be shown it."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.app_table import AppTable
from model.query import Value
from model.schema import FeatureSchema, Source
from service.admission import Entrance
from service.edition import Base, Edition, Making, Rows
from service.markets import GONE
from service.store.ports import AppChanges

STEP_ROWS = 64
"""Apps taken in at once while requests are answered: a few milliseconds."""


@dataclass(frozen=True)
class Selection:
    """The candidates of one request. rows: (N,) of its edition's table, no row twice.

    asked: (N,) their ids, where the request named them; None where they are all that is sold in a country.
    """

    rows: Rows
    edition: Edition
    asked: Sequence[str] | None = None
    unknown: tuple[str, ...] = ()
    unavailable: tuple[str, ...] = ()
    doubled: tuple[str, ...] = ()

    @property
    def table(self) -> AppTable:
        """The table that `rows` are of, whatever the shelf has come to since."""
        return self.edition.table

    def id_at(self, row: int) -> str:
        """The app of a row."""
        return self.table.ids[row]

    def features_at(self, row: int) -> Mapping[str, Value]:
        """The values that a row is scored with."""
        return self.edition.values.unpacked_at(row)

    def features_of(self, app_id: str) -> Mapping[str, Value]:
        """The values that an app of the selection is scored with."""
        if self.asked is None:
            return self.features_at(int(self.edition.rows_of([app_id])[0]))
        return self.features_at(self._row_of[app_id])

    @cached_property
    def _row_of(self) -> dict[str, int]:
        return dict(zip(self.asked or (), self.rows.tolist(), strict=True))


class Shelf:
    """A scorer's app table with what the store says of each app; one thread refreshes it, any number read it.

    pause: called after every STEP_ROWS apps that are taken in.
    """

    def __init__(self, table: AppTable, schema: FeatureSchema, *, pause: Callable[[], None] = lambda: None) -> None:
        self._entrance = Entrance(schema, Source.APP, at="")
        self._pause = pause
        self._base = Base(Edition.empty(table))
        self._edition, self._behind = self._base.edition, False
        self.sequence, self.origin = 0, ""

    @classmethod
    def on(cls, base: Base, schema: FeatureSchema, *, pause: Callable[[], None] = lambda: None) -> "Shelf":
        """A shelf that holds what a base does."""
        shelf = cls(base.edition.table, schema, pause=pause)
        shelf._base, shelf._edition = base, base.edition
        shelf.sequence, shelf.origin = base.sequence, base.origin
        return shelf

    @property
    def base(self) -> Base:
        """What the shelf began with, or was moved to since."""
        return self._base

    @property
    def room(self) -> int:
        """Apps that may still be encoded here before only a new base takes in more."""
        return self._edition.room

    @property
    def outgrown(self) -> bool:
        """True where a new base is due: enough was put beside this one, or there was no room for what was put."""
        return self._behind or len(self._edition.beside_base) > self._edition.allowance

    def refresh(self, changes: AppChanges, *, room: int | None = None) -> None:
        """Take in what the store changed: encode what is new of it, forget the deleted, then show all of it at once.

        room: apps that may be encoded; of those beyond it an unknown one stays so, and a known one is scored with its
        former values, where its market now is, until the shelf is moved to a base that has them.
        """
        if changes.put or changes.deleted:
            self._edition, left = self._changed(self._edition, changes, room=room)
            self._behind = self._behind or left
        self.sequence, self.origin = changes.sequence, changes.origin

    def move(self, base: Base, changes: AppChanges) -> None:
        """Go over to another base, and to what changed since that was built, at once."""
        self._edition, self._behind = self._changed(base.edition, changes, room=base.edition.room)
        self._base = base
        self.sequence, self.origin = changes.sequence, changes.origin

    def select(
        self, candidates: Sequence[str] | None, *, country: str | None, without: frozenset[str] = frozenset()
    ) -> Selection:
        """Look up the candidates given, or take all that is sold in the country; `without` is never among them."""
        edition = self._edition
        if candidates is None:
            return Selection(_less(edition, edition.sold_in(country), without), edition)
        asked = list(dict.fromkeys(candidates))
        rows = edition.rows_of(asked)
        codes = edition.codes[rows]
        shown = edition.markets.allowed(country)[codes]
        if without:
            shown &= np.fromiter((app_id not in without for app_id in asked), dtype=np.bool_, count=len(asked))
        doubled = _doubled(candidates) if len(candidates) > len(asked) else ()
        if shown.all():
            return Selection(rows, edition, asked, doubled=doubled)
        known = codes != GONE
        return Selection(
            rows[shown],
            edition,
            _at(asked, shown),
            unknown=_at(asked, ~known),
            unavailable=_at(asked, known & ~shown),
            doubled=doubled,
        )

    def __contains__(self, app_id: str) -> bool:
        edition = self._edition
        return bool(edition.codes[edition.rows_of([app_id])[0]] != GONE)

    def __iter__(self) -> Iterator[str]:
        edition = self._edition
        return (edition.table.ids[row] for row in edition.live_rows.tolist())

    def __len__(self) -> int:
        return len(self._edition)

    def _changed(self, edition: Edition, changes: AppChanges, *, room: int | None) -> tuple[Edition, bool]:
        """The next edition, and whether there was no room for all of it."""
        making = Making(edition, self._entrance, room=len(changes.put) if room is None else room)
        put = list({record.id: record for record in changes.put}.values())
        for start in range(0, len(put), STEP_ROWS):
            if start:
                self._pause()
            making.put(put[start : start + STEP_ROWS])
        making.forget(changes.deleted)
        return making.made().compact(), making.behind


def _less(edition: Edition, rows: Rows, without: frozenset[str]) -> Rows:
    """The rising `rows` but those of these apps."""
    if not without or not len(rows):
        return rows
    dropped = edition.rows_of(list(without))
    places = np.minimum(np.searchsorted(rows, dropped), len(rows) - 1)
    return np.delete(rows, places[rows[places] == dropped])


def _at(asked: Sequence[str], places: npt.NDArray[np.bool_]) -> tuple[str, ...]:
    return tuple(asked[place] for place in np.flatnonzero(places).tolist())


def _doubled(candidates: Iterable[str]) -> tuple[str, ...]:
    return tuple(app_id for app_id, times in Counter(candidates).items() if times > 1)
