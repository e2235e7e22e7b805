"""Rests between the steps of work that is done beside requests."""

import threading
from collections.abc import Callable

LONGEST_STEP_S = 0.25
"""What a step is taken for at most: a thread that rests again may have done all sorts of things since it last did."""


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
        self._wait(times * self._share * min(LONGEST_STEP_S, self._clock() - self._since))
        self._since = self._clock()
