"""Leaving alone for a while what did not answer, so that not everybody waits to find that out."""

from collections.abc import Callable
from enum import Enum
from threading import Lock


class Turn(Enum):
    """How a caller may ask: beside all others, or alone, to find out whether the store is back."""

    SHARED = "shared"
    PROBE = "probe"


class Breaker:
    """Who may ask a store that failed: nobody for a pause, then one at a time until it answers.

    The pause doubles with each failed probe from `first_s` to `longest_s` seconds; clock: monotonic seconds. For any
    number of threads.
    """

    def __init__(self, clock: Callable[[], float], *, first_s: float = 0.05, longest_s: float = 1.0) -> None:
        self._clock = clock
        self._first_s, self._longest_s = first_s, longest_s
        self._lock = Lock()
        self._pause_s = 0.0  # 0 while the newest word from the store is an answer
        self._next_probe = 0.0
        self._probing = False

    def enter(self) -> Turn | None:
        """The turn of a caller that may ask, and must `leave` with it whatever happens; None for one that may not."""
        if not self._pause_s:
            return Turn.SHARED  # without the lock, so that rankings do not queue for it
        with self._lock:
            if self._probing or self._clock() < self._next_probe:
                return None
            self._probing = True
            return Turn.PROBE

    def leave(self, turn: Turn, *, answered: bool) -> bool:
        """Say whether the store answered; True where that is news: the first failure, or the answer that ends them."""
        if answered and turn is Turn.SHARED and not self._pause_s:
            return False
        with self._lock:
            was_broken = bool(self._pause_s)
            if turn is Turn.PROBE:
                self._probing = False
            if answered:
                self._pause_s = 0.0
            elif turn is Turn.PROBE or not was_broken:  # one who had asked before the failure makes no pause longer
                self._pause_s = min(2 * self._pause_s, self._longest_s) or self._first_s
                self._next_probe = self._clock() + self._pause_s
            return answered == was_broken
