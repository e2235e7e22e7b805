"""What runs beside the requests: again and again, whatever goes wrong."""

from collections.abc import Callable
from threading import Event, Thread

import pytest

from service.background import Repeated
from tests.service.wire import soon


class Steps:
    """Counts its calls, and fails where it is told to."""

    def __init__(self, *failing: int) -> None:
        self.taken = 0
        self._failing = failing

    def __call__(self) -> None:
        self.taken += 1
        if self.taken in self._failing:
            raise ZeroDivisionError(f"step {self.taken}")


def test_steps_are_taken_until_it_is_stopped_and_then_the_last_thing_is_done() -> None:
    steps, last = Steps(), Steps()
    repeated = Repeated("stepping", steps, every_s=0.001, last=last)
    repeated.start()
    assert soon(lambda: steps.taken >= 3)
    repeated.stop()
    taken = steps.taken
    assert last.taken == 1
    assert steps.taken == taken


def test_a_step_that_fails_is_told_of_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    steps = Steps(1, 2, 3, 5)
    repeated = Repeated("stepping", steps, every_s=0.001)
    repeated.start()
    assert soon(lambda: steps.taken >= 6)
    repeated.stop()
    told = [record.getMessage() for record in caplog.records]
    assert told == [f"stepping failed and is tried again: step {number}" for number in (1, 5)]


def test_stopping_waits_for_the_step_that_runs() -> None:
    began, may_end, done = Event(), Event(), Event()

    def step() -> None:
        began.set()
        assert may_end.wait(20)
        done.set()

    repeated = Repeated("stepping", step, every_s=60)
    repeated.start()
    assert began.wait(20)
    ended = in_thread(repeated.stop)
    may_end.set()
    assert ended.wait(20)
    assert done.is_set()


def in_thread(call: Callable[[], None]) -> Event:
    ended = Event()

    def run() -> None:
        call()
        ended.set()

    Thread(target=run, daemon=True).start()
    return ended
