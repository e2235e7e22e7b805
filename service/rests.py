"""Rests between the steps of work that is done beside requests."""

import threading
from collections.abc import Callable


class Rests(threading.local):
    """Waits `share` times the processor time that was used since it waited last, told apart by thread.

    A step that takes as long as a request slows a request; many in a row slow all of them. clock: processor time of
    whoever asks, in seconds; wait: passes so many seconds.
    """

    def __init__(self, share: float, *, clock: Callable[[], float], wait: Callable[[float], None]) -> None:
        self._share = share
        self._clock = clock
        self._wait = wait
        self._since = clock()

    def __call__(self, *, times: float = 1.0) -> None:
        """Rest, so many times as long as usual."""
        self._wait(times * self._share * (self._clock() - self._since))
        self._since = self._clock()
