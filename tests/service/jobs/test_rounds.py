"""What a worker looks after beside the messages."""

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from service.errors import StoreUnavailable
from service.jobs.queue import PRESENCE
from service.jobs.rounds import UPKEEP_S, RoundParts, Rounds
from service.jobs.schedule import Schedule
from service.store.job_ports import JobState
from tests.service.jobs.workshop import LEASE_S, Workshop

MINUTE = 60.0


@dataclass
class Seen:
    woken: list[str] = field(default_factory=list)
    upkeeps: int = 0

    def upkeep(self) -> None:
        self.upkeeps += 1


@pytest.fixture
def seen(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> Seen:
    seen = Seen()
    monkeypatch.setattr(shop.queue, "wake", seen.woken.append)
    return seen


def rounds(shop: Workshop, seen: Seen, *, cron: str | None = None, wants_demo: Callable[[], bool] = bool) -> Rounds:
    return Rounds(
        RoundParts(
            name="w1",
            queue=shop.queue,
            worker=shop.worker("w1"),
            time=shop.time,
            lease_s=LEASE_S,
            schedule=Schedule.parse(cron) if cron else None,
            retrain={"mode": "full"},
            wants_demo=wants_demo,
            upkeep=seen.upkeep,
        )
    )


def test_a_round_shows_that_a_worker_is_up_until_it_leaves(shop: Workshop, seen: Seen) -> None:
    mine = rounds(shop, seen)
    mine.go()
    assert shop.queue.attended()
    mine.leave()
    assert not shop.queue.attended()


def test_a_job_whose_message_was_lost_is_woken_until_somebody_is_at_it(shop: Workshop, seen: Seen) -> None:
    mine, job_id = rounds(shop, seen), shop.submit()
    seen.woken.clear()
    mine.go()
    mine.go()
    assert seen.woken == [job_id, job_id]
    shop.store.take_lease("retrain", "w2", now=shop.clock(), until=shop.clock() + LEASE_S)
    mine.go()
    assert len(seen.woken) == 2
    shop.clock.advance(LEASE_S)
    mine.go()
    assert len(seen.woken) == 3


def test_where_a_demo_is_wished_for_one_is_asked_for_at_the_start_alone(shop: Workshop, seen: Seen) -> None:
    mine = rounds(shop, seen, wants_demo=lambda: True)
    mine.go()
    job = shop.queue.unfinished()
    assert job is not None
    assert (job.kind, job.who) == ("demo", "bootstrap")
    rounds(shop, seen, wants_demo=lambda: True).go()
    shop.store.end(job.id, JobState.FAILED, at=shop.clock(), result={})
    mine.go()
    assert len(shop.store.all(limit=10)) == 1


def test_a_scheduled_run_that_no_worker_was_up_for_is_made_up_within_the_hour(shop: Workshop, seen: Seen) -> None:
    shop.clock.now = 3600 * 3 + 30 * MINUTE
    rounds(shop, seen, cron="0 3 * * *").go()
    job = shop.queue.unfinished()
    assert job is not None
    assert (job.who, job.options) == ("schedule", {"mode": "full"})


def test_one_that_is_longer_ago_is_not(shop: Workshop, seen: Seen) -> None:
    shop.clock.now = 3600 * 4 + 1
    rounds(shop, seen, cron="0 3 * * *").go()
    assert shop.queue.unfinished() is None


def test_several_workers_that_are_told_of_one_due_time_ask_for_one_run(shop: Workshop, seen: Seen) -> None:
    shop.clock.now = 3600 * 3 + 5
    for _ in range(3):
        rounds(shop, seen, cron="0 3 * * *").due()
    assert len(shop.store.all(limit=10)) == 1


def test_upkeep_comes_once_an_hour(shop: Workshop, seen: Seen) -> None:
    mine = rounds(shop, seen)
    mine.go()
    mine.go()
    assert seen.upkeeps == 1
    shop.clock.advance(UPKEEP_S)
    mine.go()
    assert seen.upkeeps == 2


def test_a_store_that_is_away_costs_rounds_and_what_a_start_is_for_is_done_later(
    shop: Workshop, seen: Seen, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    mine = rounds(shop, seen, wants_demo=lambda: True)

    def away(*_: object, **__: object) -> bool:
        raise StoreUnavailable("redis", "gone")

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "take_lease", away)
        mine.go()
        mine.due()
        patch.setattr(shop.store, "drop_lease", away)
        mine.leave()
    assert "left out" in caplog.text
    mine.go()
    assert shop.queue.unfinished() is not None
    assert shop.store.lease_holder(PRESENCE, now=shop.clock()) == "w1"
