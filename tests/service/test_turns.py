"""Work for one process at a time."""

from pathlib import Path
from threading import Event

import pytest

from service.home import Home
from service.store.job_ports import JobStore
from service.store.sqlite_backend import open_sqlite
from service.turns import LEASE_S, OneAtATime, Turn
from tests.service.clock import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(tmp_path: Path, clock: Clock) -> JobStore:
    return open_sqlite(Home(tmp_path), clock).jobs


def turn(jobs: JobStore, holder: str, clock: Clock, name: str = "settling") -> OneAtATime:
    return OneAtATime(jobs, Turn(name), holder=holder, clock=clock)


def test_the_first_has_it_and_keeps_it_for_as_long_as_it_asks(jobs: JobStore, clock: Clock) -> None:
    first, second = turn(jobs, "first", clock), turn(jobs, "second", clock)
    for _ in range(20):
        assert first()
        assert not second()
        clock.advance(LEASE_S / 4)


def test_one_that_was_killed_holds_it_no_longer_than_its_lease(jobs: JobStore, clock: Clock) -> None:
    assert turn(jobs, "killed", clock)()
    clock.advance(LEASE_S - 1)
    assert not turn(jobs, "next", clock)()
    clock.advance(1)
    assert turn(jobs, "next", clock)()


def test_one_that_slept_over_its_lease_does_not_have_it_any_more(jobs: JobStore, clock: Clock) -> None:
    slow, next_one = turn(jobs, "slow", clock), turn(jobs, "next", clock)
    assert slow()
    clock.advance(LEASE_S)
    assert next_one()
    assert not slow()


def test_one_that_was_killed_after_the_clock_was_set_back_holds_it_no_longer_than_its_lease(
    jobs: JobStore, clock: Clock
) -> None:
    killed = turn(jobs, "killed", clock)
    assert killed()
    clock.advance(-3600)
    assert killed()
    clock.advance(LEASE_S)
    assert turn(jobs, "next", clock)()


def test_it_is_kept_over_work_that_takes_longer_than_the_lease(
    jobs: JobStore, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    renewed, take = Event(), jobs.take_lease

    def taken(name: str, holder: str, *, now: float, until: float) -> bool:
        done = take(name, holder, now=now, until=until)
        renewed.set()
        return done

    monkeypatch.setattr(jobs, "take_lease", taken)
    busy = OneAtATime(jobs, Turn("settling", 0.01), holder="busy", clock=clock)
    assert busy()
    with busy.kept():
        for _ in range(3):
            renewed.clear()
            clock.advance(0.009)
            assert renewed.wait(60)
            assert not turn(jobs, "next", clock)()
    clock.advance(0.01)
    assert turn(jobs, "next", clock)()


def test_what_is_given_back_is_the_next_ones_at_once(jobs: JobStore, clock: Clock) -> None:
    first, second = turn(jobs, "first", clock), turn(jobs, "second", clock)
    assert first()
    second.give_back()  # which it never had
    assert not second()
    first.give_back()
    assert second()


def test_other_work_has_turns_of_its_own(jobs: JobStore, clock: Clock) -> None:
    assert turn(jobs, "first", clock)()
    assert turn(jobs, "second", clock, "trimming")()
