"""What a job tells of itself while it runs: the step it is at, how far that is, lines, and the seconds of each step."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from service.errors import StoreUnavailable
from service.rollout import Time
from service.store.job_ports import JobLine, JobState, JobStore

BETWEEN_REPORTS_S = 0.5
PATIENCE_S = 1.0

log = logging.getLogger(__name__)


class Diary:
    """Writes into one job's record. A store that is away costs lines and progress, never the job; the end waits."""

    def __init__(self, store: JobStore, job_id: str, *, time: Time) -> None:
        self.seconds: dict[str, float] = {}
        self._store = store
        self._job_id = job_id
        self._time = time
        self._at: dict[str, Any] = {}
        self._reported = 0.0

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Report that a step begins, and keep how long it took."""
        self._at = {"step": name}
        self._report()
        began = self._time.clock()
        yield
        self.seconds[name] = round(self._time.clock() - began, 3)

    def progress(self, facts: Mapping[str, Any]) -> None:
        """How far the step is; what comes faster than a person can read is left out."""
        self._at = {"step": self._at.get("step")} | dict(facts)
        if self._time.clock() - self._reported >= BETWEEN_REPORTS_S:
            self._report()

    def say(self, text: str) -> None:
        """Add a line."""
        line = JobLine(self._time.clock(), text)
        self._try(lambda: self._store.say(self._job_id, line))

    def end(self, state: JobState, result: Mapping[str, Any]) -> None:
        """End the job, however long the store is away; its worker has an eye on the time."""
        while not self._try(lambda: self._store.end(self._job_id, state, at=self._time.clock(), result=result)):
            self._time.wait(PATIENCE_S)

    def _report(self) -> None:
        self._reported = self._time.clock()
        self._try(lambda: self._store.report(self._job_id, self._at))

    def _try(self, write: Callable[[], object]) -> bool:
        try:
            write()
        except StoreUnavailable as error:
            log.warning("job %s could not write: %s", self._job_id, error)
            return False
        return True
