"""The threads beside the requests: what follows the store, and writes to it, while the process serves."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from threading import Event, Thread
from typing import Protocol

from service.follower import Follower

END_WITHIN_S = 5.0
"""How long the end of a process waits for a step; every write of a step is a transaction, so none is left half done."""

log = logging.getLogger(__name__)


class Beside(Protocol):
    """Something that runs while the process serves."""

    def start(self) -> None:
        """Begin."""

    def stop(self) -> None:
        """Bring to an end what was begun, and return when it has ended."""


class Repeated:
    """Takes a step every so many seconds, in a thread of its own, and one last thing at the end.

    What fails is said, and tried again at the next turn.
    """

    def __init__(
        self, name: str, step: Callable[[], object], *, every_s: float, last: Callable[[], object] = lambda: None
    ) -> None:
        self._name = name
        self._step = step
        self._every_s = every_s
        self._last = last
        self._trouble: str | None = None
        self._stop = Event()
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin; the first step comes at once."""
        self._thread.start()

    def stop(self) -> None:
        """Let the step that runs end, and take no further one; one that takes END_WITHIN_S is left to the store."""
        self._stop.set()
        self._thread.join(END_WITHIN_S)

    def attempt(self, step: Callable[[], object]) -> None:
        """One step. What goes wrong in it is said once in a row and stops nothing."""
        try:
            step()
            self._trouble = None
        except Exception as error:  # a turn beside the requests
            if type(error).__name__ != self._trouble:
                log.error("%s failed and is tried again: %s", self._name, error, exc_info=error)
            self._trouble = type(error).__name__

    def _run(self) -> None:
        self.attempt(self._step)
        while not self._stop.wait(self._every_s):
            self.attempt(self._step)
        self.attempt(self._last)


class Background:
    """Starts and stops a follower and what runs beside it; `executor` is where the follower prepares versions."""

    def __init__(self, follower: Follower, executor: Executor, *, beside: Sequence[Beside] = ()) -> None:
        self._follower = follower
        self._executor = executor
        self._beside = beside
        self._stop = Event()
        self._thread = Thread(target=follower.run, args=(self._stop,), name="follower", daemon=True)

    def start(self) -> None:
        """Take the live version, then follow. Where it cannot be taken, say so and go on trying."""
        if error := self._executor.submit(self._follower.start).exception():
            log.error("the live version could not be taken at the start: %s", error, exc_info=error)
        self._thread.start()
        for one in self._beside:
            one.start()

    def stop(self) -> None:
        """Give the lease back and end the threads. A version still being prepared is let go."""
        self._stop.set()
        self._thread.join()
        self._executor.shutdown(wait=False, cancel_futures=True)
        for one in self._beside:
            one.stop()
