"""Work that every process could do and one does at a time."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from threading import Event, Thread

from service.errors import StoreUnavailable
from service.store.job_ports import JobStore

LEASE_S = 60.0


@dataclass(frozen=True)
class Turn:
    """A lease by name; a process that is killed holds it for lease_s at the longest."""

    name: str
    lease_s: float = LEASE_S


class OneAtATime:
    """True in the one process that holds a turn's lease.

    It is renewed when a third of it is over, so that while it is held the store is seldom written, and when the clock
    was set back, so that it does not outlive its process. clock: epoch seconds, the same for every process.
    """

    def __init__(self, jobs: JobStore, turn: Turn, *, holder: str, clock: Callable[[], float]) -> None:
        self._jobs = jobs
        self._turn = turn
        self._holder = holder
        self._clock = clock
        self._renewed_at: float | None = None

    @property
    def lease_s(self) -> float:
        """How long a process that is killed goes on holding it."""
        return self._turn.lease_s

    def __call__(self) -> bool:
        """Whether it is this process's turn. Raises StoreUnavailable."""
        now = self._clock()
        if self._renewed_at is not None and 0 <= now - self._renewed_at < self._turn.lease_s / 3:
            return True
        self._renewed_at = now if self._taken(now) else None
        return self._renewed_at is not None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Go on holding it while the block runs, which may take longer than the lease and has no time to ask."""
        ended = Event()

        def renew() -> None:
            while not ended.wait(self._turn.lease_s / 3):
                with suppress(StoreUnavailable):
                    self()

        thread = Thread(target=renew, name=f"keep-{self._turn.name}", daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()

    def give_back(self) -> None:
        """Let another process have its turn at once. Raises StoreUnavailable."""
        if self._renewed_at is not None:
            self._renewed_at = None
            self._jobs.drop_lease(self._turn.name, self._holder)

    def _taken(self, now: float) -> bool:
        if self._jobs.lease_holder(self._turn.name, now=now) not in (None, self._holder):
            return False  # a look costs the disk no write
        return self._jobs.take_lease(self._turn.name, self._holder, now=now, until=now + self._turn.lease_s)
