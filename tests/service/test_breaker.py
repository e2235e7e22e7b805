"""Who may ask a store that did not answer, and when."""

import pytest

from service.breaker import Breaker, Turn
from tests.service.clock import Clock

FIRST_S, LONGEST_S = 0.05, 1.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker(clock, first_s=FIRST_S, longest_s=LONGEST_S)


def test_requests_that_fail_together_make_the_pause_no_longer(breaker: Breaker, clock: Clock) -> None:
    turns = [breaker.enter() for _ in range(8)]
    news = [breaker.leave(turn, answered=False) for turn in turns if turn]
    clock.advance(FIRST_S)
    assert turns == [Turn.SHARED] * 8
    assert news == [True] + [False] * 7
    assert breaker.enter() is Turn.PROBE


def test_one_who_asked_before_the_failure_neither_ends_nor_repeats_the_probe(breaker: Breaker, clock: Clock) -> None:
    early, late = breaker.enter(), breaker.enter()
    assert early
    assert late
    breaker.leave(early, answered=False)
    clock.advance(FIRST_S)
    assert breaker.enter() is Turn.PROBE
    breaker.leave(late, answered=False)
    assert breaker.enter() is None


def test_an_answer_beside_a_probe_leaves_no_probe_behind(breaker: Breaker, clock: Clock) -> None:
    early, late = breaker.enter(), breaker.enter()
    assert early
    assert late
    breaker.leave(early, answered=False)
    clock.advance(FIRST_S)
    probe = breaker.enter()
    assert probe
    assert breaker.leave(late, answered=True)
    breaker.leave(probe, answered=True)
    assert breaker.leave(Turn.SHARED, answered=False)
    clock.advance(FIRST_S)
    assert breaker.enter() is Turn.PROBE
