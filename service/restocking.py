"""Keeping a version's shelf as the store's catalogue is, also over a store that was away, replaced or emptied."""

import logging
from collections.abc import Callable

from service.catalogue import Shelf
from service.edition import SMALL, Base, Edition
from service.engine import Live
from service.lastseen import CatalogueCopy
from service.rebasing import Bases
from service.stocking import continues
from service.store.ports import FeatureStore

COPY_EVERY_S = 60.0  # a copy reads once more all that changed since the shelf's base

log = logging.getLogger(__name__)


class Restocker:
    """Brings shelves up to date, and at times the copy for a start without the store. clock: monotonic seconds.

    copy: None where a store that is away cannot be started without anyway; bases: where a shelf gets a new base from.
    """

    def __init__(
        self, store: FeatureStore, *, copy: CatalogueCopy | None, bases: Bases, clock: Callable[[], float]
    ) -> None:
        self._store = store
        self._copy = copy
        self._bases = bases
        self._clock = clock
        self._copy_due = clock()
        self._lost = False
        self._replaced: Shelf | None = None

    def __call__(self, live: Live) -> None:
        """Take in what changed since the shelf was stocked last. Raises StoreUnavailable."""
        shelf = live.shelf
        if self._replaced is not shelf:
            self._replaced = None  # its version serves no more
        if base := self._bases.arrived(shelf):
            self._move(shelf, base)
        if self._replaced is None:
            self._take_news(live)
        if shelf.outgrown or self._replaced is not None:
            self._bases.order(live, self._is_of_now)
        if self._copy and not shelf.outgrown and self._clock() >= self._copy_due:
            self._copy_due = self._clock() + COPY_EVERY_S
            self._write(self._copy, shelf)

    def _move(self, shelf: Shelf, base: Base) -> None:
        """Go over to a base, unless the store is by now not the one that it was built of."""
        changes = self._store.apps_since(base.sequence)
        if continues(base, changes):
            former = shelf.base
            shelf.move(base, changes)
            self._bases.let_go(former)
            self._replaced = None
            log.info("the catalogue is served from a new base of %d apps", base.edition.table.base_count)

    def _is_of_now(self, base: Base) -> bool:
        return continues(base, self._store.apps_since(base.sequence))

    def _take_news(self, live: Live) -> None:
        shelf = live.shelf
        changes = self._store.apps_since(shelf.sequence)
        if not shelf.sequence or (changes.origin == shelf.origin and changes.sequence >= shelf.sequence):
            self._lost = False
            shelf.refresh(changes, room=shelf.room)
        else:
            self._begin_anew(live)

    def _begin_anew(self, live: Live) -> None:
        """Take the whole catalogue of a store that is not the one the shelf was stocked from, or has lost some of it.

        A large one becomes a new base first, and the shelf stays as it is until that is built. A store into which no
        app was ever put has lost all: shelves stay as they are until it is given a catalogue.
        """
        pages = self._store.app_pages()
        if not pages.sequence:
            if not self._lost:
                log.error("the store has lost its catalogue; rankings go on with the last one seen, import it again")
            self._lost = True
            return
        log.warning("the store's catalogue is not the one known here; all of it is read anew")
        self._lost = False
        if pages.count > SMALL:
            self._replaced = live.shelf
        else:
            live.shelf.move(Base(Edition.empty(live.scorer.table(()))), self._store.apps_since(0))

    def _write(self, copy: CatalogueCopy, shelf: Shelf) -> None:
        """Copy what changed since the shelf's base, unless some process on this machine has copied as much."""
        mark, since = copy.mark, shelf.base.sequence
        copied = mark and mark.since == since and mark.covers(origin=shelf.origin, sequence=shelf.sequence)
        if not shelf.sequence or copied:
            return
        try:
            copy.write(self._store.apps_since(since), since=since)
        except OSError as error:
            log.warning("the catalogue could not be copied for a start without the store: %s", error)
