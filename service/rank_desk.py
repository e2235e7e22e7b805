"""Where rankings meet: what arrives in one turn of the event loop is ranked together, and nobody waits for long."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from functools import partial
from typing import Protocol

from service.attempts import attempt
from service.errors import Overloaded
from service.fetching import Fetched
from service.long_queue import Long, LongQueue
from service.ranker import Asked, Begun, Ranking, RankQuery
from service.waiting import HEADROOM, Pace, Waiting, too_late

FETCHES = 2
"""Calls to a store elsewhere that are under way at a time: where one hangs, what comes meanwhile goes by another."""

FIRST_GUESS_S = 0.005  # of a turn, until some were measured


class Ranks(Protocol):
    """What the desk asks of a ranker; nothing of it raises, but `finish_long` as it is stepped through."""

    def fetch(self, user_ids: Sequence[str]) -> Sequence[Fetched]:
        """Users by id."""

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
    this machine; None fetches on the loop. A long ranking gets a chunk a turn between the others.
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

    async def rank(self, query: RankQuery, *, request_id: str, arrived: float) -> Ranking:
        """Rank among what else is here. Raises Overloaded, at once or when it has waited too long, and as Ranker.rank.

        One whose task is cancelled while it waits is not ranked.
        """
        self.check(arrived)
        loop = asyncio.get_running_loop()
        outpaced = len(self._waiting) >= self._limits.batch_limit
        waiting = Waiting(Asked(query, request_id, arrived), loop.create_future(), outpaced)
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
            loop.call_soon(self._turn, loop)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Rank a batch of what waits, and a chunk of what is long."""
        self._turn_is_due = False
        if self._fetching < FETCHES and (batch := self._next_batch()):
            self._pace.turn(self._clock(), another_follows=bool(self._waiting))
            self._fetch(batch, loop)
        if self._long:
            self._long.advance()
        self._go_on(loop)

    def _go_on(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have another turn where there is something for it; one that is not full waits for what has come by now."""
        ready = len(self._waiting) if self._fetching < FETCHES else 0
        if self._long or ready >= self._limits.batch_limit:
            self._come(loop)
        elif ready and not self._turn_is_due:
            self._turn_is_due = True
            loop.call_soon(loop.call_soon, loop.call_soon, self._turn, loop)  # what is read now is here by the third

    def _next_batch(self) -> list[Waiting]:
        """Those whose turn it is; who has left is passed over, and who was kept waiting too long is told so."""
        batch: list[Waiting] = []
        now, limit_s = self._clock(), self._limits.shed_after_s
        while self._waiting and len(batch) < self._limits.batch_limit:
            one = self._waiting.popleft()
            waited_s = now - one.asked.arrived
            if one.outpaced and waited_s > limit_s:
                one.settle(too_late(waited_s, limit_s))
            elif not one.gone:
                batch.append(one)
        return batch

    def _fetch(self, batch: Sequence[Waiting], loop: asyncio.AbstractEventLoop) -> None:
        fetch = partial(attempt, partial(self._ranker.fetch, [one.asked.query.user_id for one in batch]))
        if self._elsewhere is None:
            self._rank(batch, fetch())
            return
        self._fetching += 1
        fetching = loop.run_in_executor(self._elsewhere, fetch)
        fetching.add_done_callback(partial(self._fetched, batch, loop))

    def _fetched(
        self,
        batch: Sequence[Waiting],
        loop: asyncio.AbstractEventLoop,
        fetching: "asyncio.Future[Sequence[Fetched] | Exception]",
    ) -> None:
        self._fetching -= 1
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
            if one.gone:
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
