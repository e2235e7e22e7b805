"""A version's shelf at its start: on a mapped table where the catalogue is large, else encoded here and now."""

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from model.bundle import Golden
from model.scorer import Scorer
from service.catalogue import Shelf
from service.edition import SMALL, Base
from service.errors import StoreUnavailable, TableUnbuilt
from service.lastseen import CatalogueCopy
from service.store.ports import AppChanges, AppPages, AppRecord
from service.table_files import Maker, StoredTable, error_of, measured_error
from service.tables import Tables

log = logging.getLogger(__name__)


class Catalogue(Protocol):
    """Where a shelf is stocked from."""

    def apps_since(self, sequence: int) -> AppChanges:
        """What was put or deleted after `sequence`. Raises StoreUnavailable."""

    def app_pages(self) -> AppPages:
        """The whole catalogue. Raises StoreUnavailable."""


@dataclass(frozen=True)
class Stocked:
    """A shelf that is as the catalogue was a moment ago. error: see StoredTable."""

    shelf: Shelf
    error: float


@dataclass(frozen=True)
class StoreStock:
    """Shelves from the store. pause: after every few apps."""

    store: Catalogue
    tables: Tables
    pause: Callable[[], None]

    def __call__(self, scorer: Scorer, golden: Sequence[Golden]) -> Stocked:
        """The version's newest table and what changed since; where there is none that will do, one is built first.

        Raises StoreUnavailable, and TableUnbuilt where this process is to end.
        """
        stored, maker = self.tables.newest(scorer), Maker(scorer, golden, self.pause)
        if stored and (stocked := self._gone_on(maker, stored)):
            return stocked
        pages = self.store.app_pages()
        if pages.count > SMALL:
            try:
                return self._on_new(maker)
            except TableUnbuilt as error:
                if error.ending:
                    raise
                log.error("%s; until then each process holds all of it in memory of its own", error)
        return self._in_memory(maker, pages)

    def _gone_on(self, maker: Maker, stored: StoredTable) -> Stocked | None:
        """The table with what changed since; None where the store's catalogue is not the one that it was built of."""
        changes = self.store.apps_since(stored.base.sequence)
        if not continues(stored.base, changes):
            return None
        shelf = Shelf.on(stored.base, maker.scorer.schema, pause=self.pause)
        shelf.refresh(changes, room=shelf.room)
        return Stocked(shelf, error_of(stored, maker))

    def _on_new(self, maker: Maker) -> Stocked:
        def suits(stored: StoredTable) -> bool:
            return continues(stored.base, self.store.apps_since(stored.base.sequence))

        stocked = self._gone_on(maker, self.tables.build(maker.scorer, suits))
        if stocked is None:
            raise TableUnbuilt(maker.scorer.version, "the store's catalogue was replaced meanwhile")
        return stocked

    def _in_memory(self, maker: Maker, pages: AppPages) -> Stocked:
        table = maker.scorer.table((), capacity=pages.count)
        shelf = Shelf(table, maker.scorer.schema, pause=self.pause)
        for page in _filled(pages.pages):
            shelf.refresh(AppChanges(pages.sequence, tuple(page), (), pages.origin))
        return Stocked(shelf, measured_error(maker, ()))


@dataclass(frozen=True)
class LocalStock:
    """Shelves from what this machine holds, while the store is away."""

    copy: CatalogueCopy
    tables: Tables
    pause: Callable[[], None]

    def __call__(self, scorer: Scorer, golden: Sequence[Golden]) -> Stocked:
        """The copy where that is all of a catalogue, else the version's newest table with what the copy has beside it.

        Raises StoreUnavailable where there is neither.
        """
        stored, mark, maker = self.tables.newest(scorer), self.copy.mark, Maker(scorer, golden, self.pause)
        if stored is None or (mark and mark.replaces(origin=stored.base.origin, sequence=stored.base.sequence)):
            shelf = Shelf(scorer.table(()), scorer.schema, pause=self.pause)
            shelf.refresh(self.copy.changes(since=0))
            return Stocked(shelf, measured_error(maker, ()))
        shelf = Shelf.on(stored.base, scorer.schema, pause=self.pause)
        if mark and mark.goes_on(origin=shelf.origin, sequence=shelf.sequence):
            try:
                shelf.refresh(self.copy.changes(since=shelf.sequence), room=shelf.room)
            except StoreUnavailable as error:
                log.warning("the app table serves without what changed since it was built: %s", error)
        return Stocked(shelf, error_of(stored, maker))


def continues(base: Base, changes: AppChanges) -> bool:
    """True where these are changes since the base's state, of the store that it was built of."""
    return changes.origin == base.origin and changes.sequence >= base.sequence


def _filled(pages: Iterable[Sequence[AppRecord]]) -> Iterable[Sequence[AppRecord]]:
    """The pages, and an empty one where there is none, so that an empty catalogue has a state too."""
    none = True
    for page in pages:
        none = False
        yield page
    if none:
        yield ()
