"""Keeping a version's shelf as the store's catalogue is, also over a store that was away, replaced or emptied."""

import logging
from collections.abc import Callable
from dataclasses import replace

from service.catalogue import Shelf
from service.engine import Live
from service.lastseen import CatalogueCopy
from service.store.ports import AppChanges, FeatureStore

COPY_EVERY_S = 60.0  # a copy reads the whole catalogue once more

log = logging.getLogger(__name__)


class Restocker:
    """Brings shelves up to date, and at times the copy for a start without the store. clock: monotonic seconds.

    copy: None where a store that is away cannot be started without anyway.
    """

    def __init__(self, store: FeatureStore, *, copy: CatalogueCopy | None, clock: Callable[[], float]) -> None:
        self._store = store
        self._copy = copy
        self._clock = clock
        self._copy_due = clock()
        self._lost = False

    def __call__(self, live: Live) -> None:
        """Take in what changed since the shelf was stocked last. Raises StoreUnavailable."""
        live.shelf.refresh(self._news(live.shelf))
        if self._copy and self._clock() >= self._copy_due:
            self._copy_due = self._clock() + COPY_EVERY_S
            self._write(self._copy, live.shelf)

    def _news(self, shelf: Shelf) -> AppChanges:
        changes = self._store.apps_since(shelf.sequence)
        if not shelf.sequence or (changes.origin == shelf.origin and changes.sequence >= shelf.sequence):
            self._lost = False
            return changes
        return self._all_anew(shelf)

    def _all_anew(self, shelf: Shelf) -> AppChanges:
        """The whole catalogue of a store that is not the one the shelf was stocked from, or has lost some of it.

        A store into which no app was ever put has lost all: shelves stay as they are until it is given a catalogue.
        """
        whole = self._store.apps_since(0)
        if not whole.sequence:
            if not self._lost:
                log.error("the store has lost its catalogue; rankings go on with the last one seen, import it again")
            self._lost = True
            return AppChanges(shelf.sequence, (), (), shelf.origin)
        log.warning("the store's catalogue is not the one known here; all of it is read anew")
        self._lost, found = False, {record.id for record in whole.put}
        gone = (app_id for app_id in shelf if app_id not in found)
        return replace(whole, deleted=(*whole.deleted, *gone))

    def _write(self, copy: CatalogueCopy, shelf: Shelf) -> None:
        """Copy the catalogue, unless nothing is in it or the copy of some process on this machine is as new."""
        mark = copy.mark
        if not shelf.sequence or (mark and mark.covers(origin=shelf.origin, sequence=shelf.sequence)):
            return
        try:
            copy.write(self._store.apps_since(0))
        except OSError as error:
            log.warning("the catalogue could not be copied for a start without the store: %s", error)
