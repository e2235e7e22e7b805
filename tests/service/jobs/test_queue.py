"""Jobs asked for and cancelled: one waits or runs at a time."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest

from service.errors import JobEnded, JobUnderWay, StoreUnavailable, UnknownJob
from service.jobs.broker import Broker, sqlite_broker
from service.jobs.queue import LEASE, PRESENCE, SUBMIT, SUBMIT_S, JobQueue, token_of
from service.rollout import Time
from service.store.job_ports import JobState
from service.store.sqlite import Database
from service.store.sqlite_jobs import SqliteJobStore
from tests.service.jobs.workshop import Workshop


def test_a_job_waits_with_what_was_asked_and_who_asked(shop: Workshop) -> None:
    job = shop.queue.submit("retrain", {"mode": "full"}, who="ana")
    kept = shop.job(job.id)
    assert (kept.kind, kept.options, kept.who, kept.state) == ("retrain", {"mode": "full"}, "ana", JobState.QUEUED)
    assert job.id.startswith("retrain-19700112T134640Z-")
    assert job.id.endswith(token_of(job.id))


def test_a_second_is_refused_naming_the_first_until_that_has_ended(shop: Workshop) -> None:
    first = shop.submit()
    with pytest.raises(JobUnderWay, match=first) as refused:
        shop.submit()
    assert refused.value.job_id == first
    shop.store.begin(first, at=shop.clock())
    with pytest.raises(JobUnderWay, match="running"):
        shop.submit()
    shop.store.end(first, JobState.FAILED, at=shop.clock(), result={})
    assert shop.submit() != first


def test_of_many_asked_for_at_once_by_many_processes_one_is_taken(tmp_path: Path) -> None:
    barrier = Barrier(6)

    def ask(_: int) -> bool:
        store, broker = SqliteJobStore(Database(tmp_path / "store.sqlite")), sqlite_broker(tmp_path / "queue.sqlite")
        queue = JobQueue(store, lambda: broker, time=Time(time.time, time.sleep))  # real, as are these threads
        barrier.wait()
        try:
            queue.submit("retrain", {}, who="ana")
        except JobUnderWay:
            return True
        return False

    with ThreadPoolExecutor(6) as threads:
        refused = list(threads.map(ask, range(6)))
    assert sum(refused) == 5
    assert len(SqliteJobStore(Database(tmp_path / "store.sqlite")).all(limit=10)) == 1


def test_one_that_was_killed_while_it_asked_holds_up_the_next_only_for_a_while(shop: Workshop) -> None:
    began = shop.clock()
    shop.store.take_lease(SUBMIT, "killed", now=began, until=began + SUBMIT_S)
    shop.submit()
    assert shop.clock() >= began + SUBMIT_S


def test_a_job_is_kept_though_the_queue_cannot_be_reached(shop: Workshop, caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> Broker:
        raise StoreUnavailable("queue.sqlite", "gone")

    job = JobQueue(shop.store, broken, time=shop.time).submit("retrain", {}, who="ana")
    assert shop.worker().waiting() == job.id
    assert "a worker that looks will find it" in caplog.text


def test_a_queue_file_that_is_damaged_costs_no_job(shop: Workshop, tmp_path: Path) -> None:
    shop.broker = sqlite_broker(tmp_path / "gone.sqlite")
    (tmp_path / "gone.sqlite").write_bytes(b"overwritten by somebody" * 500)
    job_id = shop.submit()
    assert shop.worker().waiting() == job_id


def test_cancelling_what_waits_ends_it_at_once(shop: Workshop) -> None:
    job_id = shop.submit()
    cancelled = shop.queue.cancel(job_id, who="bob")
    assert cancelled.state is JobState.CANCELLED
    assert cancelled.result == {"error": "cancelled by bob"}
    assert shop.queue.unfinished() is None


def test_cancelling_what_runs_leaves_the_end_to_its_worker(shop: Workshop) -> None:
    job_id, now = shop.submit(), shop.clock()
    shop.store.take_lease(LEASE, "w1", now=now, until=now + 30)
    shop.store.begin(job_id, at=now)
    asked = shop.queue.cancel(job_id, who="bob")
    assert (asked.state, asked.cancel_asked) == (JobState.RUNNING, True)


def test_cancelling_what_a_dead_worker_had_ends_it_at_once(shop: Workshop) -> None:
    job_id = shop.submit()
    shop.store.begin(job_id, at=shop.clock())
    assert shop.queue.cancel(job_id, who="bob").state is JobState.CANCELLED


def test_what_has_ended_or_is_unknown_cannot_be_cancelled(shop: Workshop) -> None:
    job_id = shop.submit()
    shop.queue.cancel(job_id, who="bob")
    with pytest.raises(JobEnded, match="cancelled"):
        shop.queue.cancel(job_id, who="bob")
    with pytest.raises(UnknownJob, match="appshelf jobs"):
        shop.queue.cancel("retrain-of-nobody", who="bob")


def test_a_scheduled_job_is_entered_once_for_its_time(shop: Workshop) -> None:
    due = shop.clock()
    shop.clock.advance(10)
    job = shop.queue.submit_due("retrain", {}, due=due)
    assert job is not None
    assert job.who == "schedule"
    assert shop.queue.submit_due("retrain", {}, due=due) is None
    shop.store.end(job.id, JobState.FAILED, at=shop.clock(), result={})
    assert shop.queue.submit_due("retrain", {}, due=due) is None
    shop.clock.advance(60)
    assert shop.queue.submit_due("retrain", {}, due=due + 60) is not None


def test_a_scheduled_job_is_left_out_where_another_was_under_way_at_its_time(shop: Workshop) -> None:
    job_id, due = shop.submit(), shop.clock() + 60
    shop.clock.advance(120)
    assert shop.queue.submit_due("retrain", {}, due=due) is None
    shop.store.end(job_id, JobState.SUCCEEDED, at=shop.clock(), result={})
    assert shop.queue.submit_due("retrain", {}, due=due) is None


def test_a_worker_is_up_while_its_lease_lasts(shop: Workshop) -> None:
    assert not shop.queue.attended()
    shop.store.take_lease(PRESENCE, "w1", now=shop.clock(), until=shop.clock() + 30)
    assert shop.queue.attended()
    shop.clock.advance(30)
    assert not shop.queue.attended()
