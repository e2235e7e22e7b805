"""Waiting for a turn: who does, how long it will take, and when it takes too long."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from service.errors import ClientLeft, Overloaded
from service.ranker import Asked, Ranking

HEADROOM = 1.25
"""What is expected to wait nearly too long is refused at once, rather than after it has waited."""


@dataclass(frozen=True, eq=False)
class Waiting:
    """A request in a queue. outpaced: when it came there, others went before it; one that nobody did waits for none.

    left: whether whoever asked has left.
    """

    asked: Asked
    answer: "asyncio.Future[Ranking]"
    outpaced: bool
    left: Callable[[], bool]

    def gone(self) -> bool:
        """True where whoever asked has been answered, or left, with which the request is over."""
        if not self.answer.done() and self.left():
            self.answer.set_exception(ClientLeft())
        return self.answer.done()

    def settle(self, outcome: Ranking | Exception) -> None:
        """Answer, unless whoever asked has left."""
        if self.answer.done():
            return
        if isinstance(outcome, Exception):
            self.answer.set_exception(outcome)
        else:
            self.answer.set_result(outcome)


class Pace:
    """How many seconds a turn takes while another follows it at once.

    One turn counts for at most `jump` times what was expected: a process that was held up once has not become slow.
    """

    def __init__(self, guess_s: float, *, weight: float = 0.2, jump: float = 2.0) -> None:
        self.expected_s = guess_s
        self._weight, self._jump = weight, jump
        self._followed: float | None = None

    def turn(self, now: float, *, another_follows: bool) -> None:
        """A turn begins now; another_follows: the next one will begin as soon as this one has ended."""
        if self._followed is not None:
            took = now - self._followed
            told = min(max(took, self.expected_s / self._jump), self.expected_s * self._jump)
            self.expected_s += self._weight * (told - self.expected_s)
        self._followed = now if another_follows else None


def too_late(wait_s: float, limit_s: float) -> Overloaded:
    """The refusal of a ranking that waits, or would, for longer than the limit."""
    return Overloaded(f"a ranking waits {wait_s:.2g} s for its turn here where at most {limit_s:g} s are allowed")
