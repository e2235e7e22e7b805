"""Rankings of more candidates than fit into one turn: they are scored chunk by chunk, some of them side by side."""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

from service.attempts import attempt
from service.ranker import Ranking
from service.waiting import HEADROOM, Pace, Waiting, too_late

SIDE_BY_SIDE = 4
"""Long rankings that share the turns, so that one over a million apps does not hold one over a thousand."""

FIRST_GUESS_S = 0.002  # of a chunk, until some were measured


@dataclass
class Long:
    """A ranking under way. steps: a None for each chunk, then the answer; chunks: how many are left."""

    waiting: Waiting
    steps: Iterator[Ranking | None]
    chunks: int


class LongQueue:
    """Long rankings in the order in which they came. clock: monotonic seconds; shed_after_s: as DeskLimits has it."""

    def __init__(self, clock: Callable[[], float], *, shed_after_s: float) -> None:
        self._clock = clock
        self._shed_after_s = shed_after_s
        self._running: deque[Long] = deque()
        self._queued: deque[Long] = deque()
        self._pace = Pace(FIRST_GUESS_S)

    def __len__(self) -> int:
        return len(self._running) + len(self._queued)

    def put(self, one: Long) -> None:
        """Take a ranking on, or refuse it where it would begin too late."""
        if len(self._running) < SIDE_BY_SIDE:
            self._running.append(one)
            return
        waited_s = self._clock() - one.waiting.asked.arrived
        wait_s = waited_s + self._chunks_before() * self._pace.expected_s
        if wait_s * HEADROOM > self._shed_after_s:
            one.waiting.settle(too_late(wait_s, self._shed_after_s))
        else:
            self._queued.append(one)

    def advance(self) -> None:
        """Score one chunk of one of them."""
        self._pace.turn(self._clock(), another_follows=len(self) > 1)
        while self._running:
            one = self._running.popleft()
            if one.waiting.gone():
                self._promote()
                continue
            outcome = attempt(partial(next, one.steps))
            if outcome is None:
                one.chunks -= 1
                self._running.append(one)
            else:
                one.waiting.settle(outcome)
                self._promote()
            return

    def _chunks_before(self) -> int:
        """Chunks that are scored until one that came now would begin: those that run share the turns evenly."""
        left = sorted(one.chunks for one in self._running if not one.waiting.gone())
        chunks = 0
        for following in (*(one.chunks for one in self._queued if not one.waiting.gone()), 0):
            if len(left) == SIDE_BY_SIDE:
                first, *others = left
                chunks += first * SIDE_BY_SIDE
                left = [other - first for other in others]
            left = sorted([*left, following])
        return chunks

    def _promote(self) -> None:
        """Let the next one begin; one that has waited too long for that is told so."""
        now = self._clock()
        while self._queued:
            one = self._queued.popleft()
            if one.waiting.gone():
                continue
            waited_s = now - one.waiting.asked.arrived
            if waited_s <= self._shed_after_s:
                self._running.append(one)
                return
            one.waiting.settle(too_late(waited_s, self._shed_after_s))
