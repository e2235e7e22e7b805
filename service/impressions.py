"""What was shown, with the values that it was scored with, on its way to the log: never in the way of a request."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from threading import Event, Lock, Thread
from typing import Protocol

from model.query import Query
from service.catalogue import Selection
from service.engine import Live
from service.errors import StoreUnavailable
from service.ordering import Ranked
from service.store.log_ports import EventLog, Impression, Shown

AT_ONCE = 500
EVERY_S = 0.1
POPULARITY = "popularity"
"""Stands for the version where an answer was ordered by popularity, so that nobody takes its scores for a version's."""

REPEATED = "repeated_id"
"""Why an impression is lost whose request came under an id (X-Request-ID) that an earlier one had.

Those of users who were deleted before they could be written are counted with them.
"""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Scored:
    """A ranking with what it was made of. scorer: the version that scored, or POPULARITY."""

    live: Live
    scorer: str
    asked: Query
    selection: Selection
    items: tuple[Ranked, ...]


def impression_of(scored: Scored, *, request_id: str, at: float) -> Impression:
    """The impression of an answer: every value as the scorer took it; at: epoch seconds, kept to the microsecond."""
    asked, values = scored.asked, scored.selection.edition.values
    known, used = scored.live.scorer.transform.audience.get, asked.history.get
    measures = scored.live.scorer.measures(asked, [item.app_id for item in scored.items])
    shown = [
        Shown(
            item.app_id,
            position,
            item.score,
            values.packed_at(item.row),
            max(known(item.app_id, 0) - (used(item.app_id, 0) > 0), 0),  # PairStatistic.OTHERS
            measures[position - 1],
        )
        for position, item in enumerate(scored.items, 1)
    ]
    return Impression(
        request_id, round(at, 6), scored.scorer, asked.user_id, asked.user, asked.context, asked.history, tuple(shown)
    )


class Meter(Protocol):
    """Where impressions are counted."""

    def impressions_kept(self, count: int) -> None:
        """Count impressions that are in the log."""

    def impressions_lost(self, reason: str, *, count: int) -> None:
        """Count impressions that were dropped, and why."""


class ImpressionWriter:
    """Holds impressions back and writes them in batches, in a thread of its own.

    capacity: how many it holds back at most; a further one is dropped and counted, as is what cannot be written.
    """

    def __init__(self, log: EventLog, *, capacity: int, meter: Meter) -> None:
        self._log = log
        self._capacity = capacity
        self._meter = meter
        self._held: dict[str, Impression] = {}
        self._holding = Lock()  # taken for moments, by requests
        self._writing = Lock()  # taken for as long as the store takes, never by a request that ranks
        self._stop = Event()
        self._trouble: str | None = None
        self._unsure = False  # after a try without an answer, which may have kept what is tried again
        self._thread = Thread(target=self._run, name="impressions", daemon=True)

    def record(self, impression: Impression) -> None:
        """Take an impression, or drop it where there is no room, or where its request's id is of another that is held.

        Neither waits for the store nor raises.
        """
        with self._holding:
            repeated, room = impression.request_id in self._held, len(self._held) < self._capacity
            if room and not repeated:
                self._held[impression.request_id] = impression
        if repeated or not room:
            self._meter.impressions_lost(REPEATED if repeated else "buffer_full", count=1)

    def flush(self, request_ids: Iterable[str]) -> None:
        """Where one of these is held back, write all that is now. Raises StoreUnavailable."""
        with self._holding:
            held = any(request_id in self._held for request_id in request_ids)
        if held:
            self._write()

    def forget_user(self, user_id: str) -> int:
        """Let go of what is held back of a user, and how many that were; after this none is on its way to the log."""
        with self._writing, self._holding:
            theirs = [request_id for request_id, held in self._held.items() if held.user_id == user_id]
            for request_id in theirs:
                del self._held[request_id]
        return len(theirs)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is held back and end; what cannot be written then is lost."""
        self._stop.set()
        self._thread.join()
        self._attempt()
        if left := len(self._held):
            self._meter.impressions_lost("stopped", count=left)
            log.error("%d impressions could not be written before the end: %s", left, self._trouble)

    def _run(self) -> None:
        while not self._stop.wait(EVERY_S):
            self._attempt()

    def _attempt(self) -> None:
        """Write all there is; while the store is away keep it for the next time, and say so once."""
        try:
            self._write()
            self._trouble = None
        except StoreUnavailable as error:
            if self._trouble is None:
                log.warning("impressions are held back: %s", error)
            self._trouble = str(error)

    def _write(self) -> None:
        """Write what is held back at this moment, a batch at a time. Raises StoreUnavailable."""
        with self._writing:
            left = len(self._held)
            while left > 0:
                with self._holding:
                    batch = list(islice(self._held.values(), min(AT_ONCE, left)))
                self._show(batch)
                with self._holding:
                    for one in batch:
                        del self._held[one.request_id]
                left -= len(batch)

    def _show(self, batch: list[Impression]) -> None:
        """Put a batch into the log. One that the log cannot take for any other reason than being away is given up."""
        try:
            new = self._log.show(batch)
            repeated = 0 if self._unsure else len(batch) - new
            self._unsure = False
            self._meter.impressions_kept(len(batch) - repeated)
            if repeated:
                self._meter.impressions_lost(REPEATED, count=repeated)
        except StoreUnavailable:
            self._unsure = True
            raise
        except Exception as error:  # a batch of impressions: the next ones are to be written all the same
            self._meter.impressions_lost("unwritable", count=len(batch))
            log.error("%d impressions were given up: %s", len(batch), error, exc_info=error)
