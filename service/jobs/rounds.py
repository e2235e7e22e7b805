"""What a worker looks after every few seconds beside the messages: that it is seen, and that no job is forgotten."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from service.errors import JobUnderWay, StoreUnavailable
from service.jobs.queue import DEMO, PRESENCE, RETRAIN, JobQueue
from service.jobs.schedule import Schedule
from service.jobs.worker import Worker
from service.rollout import Time

UPKEEP_S = 3600.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RoundParts:
    """What the rounds look after.

    name: the worker's; lease_s: seconds that it counts as up without a sign; retrain: the options of a scheduled run;
    wants_demo: whether nothing is live and a demo is wished for; upkeep: what is done every hour.
    """

    name: str
    queue: JobQueue
    worker: Worker
    time: Time
    lease_s: float
    schedule: Schedule | None
    retrain: Mapping[str, Any]
    wants_demo: Callable[[], bool]
    upkeep: Callable[[], None]


class Rounds:
    """Repeatable at any time; a store that is away costs a round."""

    def __init__(self, parts: RoundParts) -> None:
        self._parts = parts
        self._settled_in = False
        self._upkeep_at = 0.0

    def go(self) -> None:
        """One round."""
        try:
            self._go()
        except StoreUnavailable as error:
            log.warning("a round was left out: %s", error)

    def due(self) -> None:
        """Ask for the retrain that the schedule's last time within the hour was for, unless it was run or overtaken."""
        parts = self._parts
        at = parts.schedule.last_due(parts.time.clock()) if parts.schedule else None
        try:
            if at is not None and (job := parts.queue.submit_due(RETRAIN, parts.retrain, due=at)):
                log.info("job %s was due", job.id)
        except StoreUnavailable as error:
            log.warning("the schedule's retrain was not asked for: %s", error)

    def settle_in(self) -> None:
        """What a start is for: the demo where nothing is live, and a scheduled run that no worker was up for."""
        if self._parts.wants_demo():
            try:
                self._parts.queue.submit(DEMO, {}, who="bootstrap")
            except JobUnderWay as other:
                log.info("no demo was asked for: %s", other)
        self.due()
        self._settled_in = True

    def is_due(self, minute: datetime) -> bool:
        """Whether the schedule names this minute (UTC)."""
        return self._parts.schedule is not None and self._parts.schedule.matches(minute)

    def leave(self) -> None:
        """Be no longer counted as up."""
        try:
            self._parts.queue.store.drop_lease(PRESENCE, self._parts.name)
        except StoreUnavailable as error:
            log.warning("a worker counts as up for %g s more: %s", self._parts.lease_s, error)

    def _go(self) -> None:
        parts, now = self._parts, self._parts.time.clock()
        parts.queue.store.take_lease(PRESENCE, parts.name, now=now, until=now + parts.lease_s)
        if not self._settled_in:
            self.settle_in()
        if job := parts.worker.waiting():
            parts.queue.wake(job)
        if now >= self._upkeep_at:
            self._upkeep_at = now + UPKEEP_S
            parts.upkeep()
