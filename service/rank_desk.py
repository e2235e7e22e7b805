"""Where rankings meet: what arrives in one turn of the event loop is ranked together, and nobody waits for long."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextvars import Context
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Protocol

from service.attempts import attempt
from service.errors import Overloaded
from service.fetching import Fetched
from service.leaving import stays
from service.long_queue import Long, LongQueue
from service.ranker import Asked, Begun, Ranking, RankQuery
from service.waiting import HEADROOM, Pace, Waiting, too_late

FETCHES = 2
"""Calls to a store elsewhere that are under way at a time: where one hangs, what comes meanwhile goes by another."""

FIRST_GUESS_S = 0.005  # of a turn, until some were measured
LEAST_LOOK_S = 0.001  # between two looks at whether the store hangs


class Ranks(Protocol):
    """What the desk asks of a ranker; nothing of it raises, but `finish_long` as it is stepped through."""

    def fetch(self, user_ids: Sequence[str], /, *, at_once: bool = False) -> Sequence[Fetched]:
        """Users by id; at_once: without asking the store."""

    def begin(self, asked: Sequence[Asked], fetched: Sequence[Fetched]) -> list[Begun | Exception]:
        """Everything of these rankings up to their scores."""

    def finish(self, begun: Sequence[Begun]) -> list[Ranking | Exception]:
        """The answers to what was begun together."""

    def finish_long(self, begun: Begun) -> Iterator[Ranking | None]:
        """The answer to one ranking, after a None for each moment at which others may have their turns."""


@dataclass(frozen=True)
class DeskLimits:
    """max_under_way: rankings taken on at a time; batch_limit: how many are ranked together at most.

    shed_after_s: seconds that a ranking may wait for its turn.
    """

    max_under_way: int
    batch_limit: int
    shed_after_s: float


class RankDesk:
    """Ranks on the event loop that it is asked on; no other thread is handed anything but, with `elsewhere`, fetching.

    clock: monotonic seconds, by which arrivals are told too. elsewhere: threads to wait in for a store that is not on
    this machine; None fetches on the loop. Where that store holds all of them, what waits is ranked without it. A long
    ranking gets a chunk a turn between the others.
    """

    def __init__(
        self, ranker: Ranks, *, limits: DeskLimits, clock: Callable[[], float], elsewhere: Executor | None = None
    ) -> None:
        self._ranker = ranker
        self._limits = limits
        self._clock = clock
        self._elsewhere = elsewhere
        self._waiting: deque[Waiting] = deque()
        self._long = LongQueue(clock, shed_after_s=limits.shed_after_s)
        self._under_way = self._fetching = 0
        self._pace = Pace(FIRST_GUESS_S)
        self._turn_is_due = False
        self._store_hangs, self._hung_until, self._held_since = False, -inf, -inf
        self._look: asyncio.TimerHandle | None = None

    @property
    def would_wait_s(self) -> float:
        """Seconds until a ranking that came now would begin: one turn for each full batch before it."""
        return len(self._waiting) // self._limits.batch_limit * self._pace.expected_s

    def check(self, arrived: float) -> None:
        """Raise Overloaded where too many rankings are under way, or one that arrived then would begin too late."""
        limits = self._limits
        if self._under_way >= limits.max_under_way:
            raise Overloaded(f"{self._under_way} rankings are under way here, which is the limit")
        if len(self._waiting) >= limits.batch_limit:
            wait_s = self._clock() - arrived + self.would_wait_s
            if wait_s * HEADROOM > limits.shed_after_s:
                raise too_late(wait_s, limits.shed_after_s)

    async def rank(
        self, query: RankQuery, *, request_id: str, arrived: float, left: Callable[[], bool] = stays
    ) -> Ranking:
        """Rank among what else is here. Raises Overloaded, at once or when it has waited too long, and as Ranker.rank.

        One whose task is cancelled while it waits is not ranked, nor one who has left by then. Raises ClientLeft.
        """
        self.check(arrived)
        loop = asyncio.get_running_loop()
        outpaced = len(self._waiting) >= self._limits.batch_limit
        waiting = Waiting(Asked(query, request_id, arrived), loop.create_future(), outpaced, left)
        self._waiting.append(waiting)
        self._under_way += 1
        self._come(loop)
        try:
            return await waiting.answer
        finally:
            self._under_way -= 1

    def _come(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have a turn after all that the loop has at hand now, so that what came with this is in it."""
        if not self._turn_is_due:
            self._turn_is_due = True
            loop.call_soon(self._turn, loop, context=Context())  # a turn is no one request's, nor is what it logs

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Rank a batch of what waits, and a chunk of what is long."""
        self._turn_is_due = False
        self._see_whether_the_store_hangs()
        if self._may_begin and (batch := self._next_batch()):
            self._pace.turn(self._clock(), another_follows=bool(self._waiting))
            self._fetch(batch, loop)
        if self._long:
            self._long.advance()
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have another turn where there is something for it; one that is not full waits for what has come by now."""
        ready = len(self._waiting) if self._may_begin else 0
        if self._long or ready >= self._limits.batch_limit:
            self._come(loop)
        elif ready and not self._turn_is_due:
            self._turn_is_due = True
            loop.call_soon(loop.call_soon, loop.call_soon, self._turn, loop)  # what is read now is here by the third
        if self._waiting and not self._may_begin and self._look is None:
            left_s = self._limits.shed_after_s - self._held_s(self._clock())
            self._look = loop.call_later(max(left_s, LEAST_LOOK_S), self._look_again, loop)

    def _look_again(self, loop: asyncio.AbstractEventLoop) -> None:
        self._look = None
        self._come(loop)

    @property
    def _may_begin(self) -> bool:
        return self._fetching < FETCHES or self._store_hangs

    def _held_s(self, now: float) -> float:
        """Seconds that the oldest that waits has done so for the store alone, which holds every fetch."""
        return now - max(self._waiting[0].asked.arrived, self._held_since)

    def _see_whether_the_store_hangs(self) -> None:
        """It does from when somebody has waited too long for it until it gives a fetch back."""
        now = self._clock()
        if self._waiting and not self._may_begin:
            self._store_hangs = self._held_s(now) >= self._limits.shed_after_s
        if self._store_hangs:
            self._hung_until = now

    def _next_batch(self) -> list[Waiting]:
        """Those whose turn it is; who has left is passed over, and who was kept waiting too long is told so."""
        batch: list[Waiting] = []
        now, limit_s = self._clock(), self._limits.shed_after_s
        while self._waiting and len(batch) < self._limits.batch_limit:
            one = self._waiting.popleft()
            if one.gone():
                continue
            waited_s = now - max(one.asked.arrived, self._hung_until)  # before that, for the store and for no others
            if one.outpaced and waited_s > limit_s:
                one.settle(too_late(waited_s, limit_s))
            else:
                batch.append(one)
        return batch

    def _fetch(self, batch: Sequence[Waiting], loop: asyncio.AbstractEventLoop) -> None:
        user_ids = [one.asked.query.user_id for one in batch]
        fetch = partial(attempt, partial(self._ranker.fetch, user_ids, at_once=self._store_hangs))
        if self._elsewhere is None or self._store_hangs:
            self._rank(batch, fetch())
            return
        fetching = attempt(partial(loop.run_in_executor, self._elsewhere, fetch))
        if isinstance(fetching, Exception):
            self._rank(batch, fetching)
            return
        self._fetching += 1
        self._held_since = self._clock()
        fetching.add_done_callback(partial(self._fetched, batch, loop))

    def _fetched(
        self,
        batch: Sequence[Waiting],
        loop: asyncio.AbstractEventLoop,
        fetching: "asyncio.Future[Sequence[Fetched] | Exception]",
    ) -> None:
        self._fetching -= 1
        self._store_hangs = False
        self._rank(batch, fetching.result())
        self._go_on(loop)

    def _rank(self, batch: Sequence[Waiting], fetched: Sequence[Fetched] | Exception) -> None:
        """Answer these; each that fails, or has failed with all others, is told so itself."""
        if isinstance(fetched, Exception):
            for one in batch:
                one.settle(fetched)
            return
        short: list[tuple[Waiting, Begun]] = []
        for one, begun in zip(batch, self._ranker.begin([one.asked for one in batch], fetched), strict=True):
            if one.gone():
                continue
            if isinstance(begun, Exception):
                one.settle(begun)
            elif begun.sought.is_long:
                self._long.put(Long(one, self._ranker.finish_long(begun), begun.sought.chunks))
            else:
                short.append((one, begun))
        answers = self._ranker.finish([begun for _, begun in short])
        for (one, _), answer in zip(short, answers, strict=True):
            one.settle(answer)
