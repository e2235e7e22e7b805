"""A worker and its attempts at a job: leases, limits, cancels, crashes, and a store that is away."""

from threading import Event

import pytest

from service.errors import StoreUnavailable
from service.jobs.queue import LEASE
from service.store.job_ports import Job, JobState
from tests.service.jobs.workshop import ATTEMPTS, LEASE_S, TIMEOUT_S, Child, Workshop


def error_of(job: Job) -> str:
    assert job.result is not None
    return str(job.result["error"])


def test_a_job_that_its_child_ends_is_done_in_one_attempt(shop: Workshop) -> None:
    shop.doing = shop.finish
    job_id = shop.submit()
    shop.worker().work(job_id)
    assert shop.job(job_id).state is JobState.SUCCEEDED
    assert shop.job(job_id).result == {"version": "v1"}
    assert len(shop.children) == 1
    assert shop.store.lease_holder(LEASE, now=shop.clock()) is None


def test_a_message_that_comes_twice_or_names_nothing_begins_nothing(shop: Workshop) -> None:
    shop.doing = shop.finish
    job_id = shop.submit()
    shop.worker().work(job_id)
    shop.worker().work(job_id)
    shop.worker().work("retrain-of-nobody")
    assert len(shop.children) == 1


def test_a_crash_is_followed_by_another_attempt_and_its_last_words_are_kept(shop: Workshop) -> None:
    shop.doing = lambda child: shop.finish(child) if child.job.attempt == 2 else 1
    job_id = shop.submit()
    shop.worker().work(job_id)
    job = shop.job(job_id)
    assert (job.state, job.attempt) == (JobState.SUCCEEDED, 2)
    assert "its last word" in [line.text for line in job.lines]


def test_a_child_that_ends_well_without_a_result_has_crashed(shop: Workshop) -> None:
    shop.doing = lambda child: shop.finish(child) if child.job.attempt == 2 else 0
    job_id = shop.submit()
    shop.worker().work(job_id)
    assert shop.job(job_id).attempt == 2


def test_after_so_many_attempts_a_job_has_failed_naming_the_step(shop: Workshop) -> None:
    def crash(child: Child) -> int:
        shop.store.report(child.job.id, {"step": "train"})
        return -11

    shop.doing = crash
    job_id = shop.submit()
    shop.worker().work(job_id)
    assert len(shop.children) == ATTEMPTS
    assert shop.job(job_id).state is JobState.FAILED
    assert "step train" in error_of(shop.job(job_id))


def test_the_lease_is_kept_while_a_child_runs_and_between_attempts(shop: Workshop) -> None:
    held = []
    shop.meanwhile = lambda: held.append(shop.store.lease_holder(LEASE, now=shop.clock()))
    shop.doing = lambda child: None if child.looks < 200 else 1 if child.job.attempt == 1 else shop.finish(child)
    shop.worker().work(shop.submit())
    assert len(held) > 2 * 190
    assert set(held) == {"w1"}


def test_while_one_worker_is_at_a_job_another_leaves_it_alone(shop: Workshop) -> None:
    job_id = shop.submit()
    second = shop.worker("w2")
    shop.meanwhile = lambda: second.work(job_id)
    shop.doing = lambda child: None if child.looks < 50 else shop.finish(child)
    shop.worker("w1").work(job_id)
    assert len(shop.children) == 1


def test_a_dead_workers_job_is_begun_again_when_its_lease_is_over(shop: Workshop) -> None:
    job_id = shop.submit()
    now = shop.clock()
    shop.store.take_lease(LEASE, "dead", now=now, until=now + LEASE_S)
    shop.store.begin(job_id, at=now)
    worker = shop.worker("w2")
    shop.doing = shop.finish
    worker.work(job_id)
    assert worker.waiting() is None
    assert shop.job(job_id).state is JobState.RUNNING

    shop.clock.advance(LEASE_S)

    assert worker.waiting() == job_id
    worker.work(job_id)
    assert (shop.job(job_id).state, shop.job(job_id).attempt) == (JobState.SUCCEEDED, 2)


def test_a_job_at_which_workers_died_too_often_fails_without_another_attempt(shop: Workshop) -> None:
    job_id = shop.submit()
    for _ in range(ATTEMPTS):
        shop.store.begin(job_id, at=shop.clock())
    shop.worker().work(job_id)
    assert shop.children == []
    assert shop.job(job_id).state is JobState.FAILED
    assert f"begun {ATTEMPTS} times" in error_of(shop.job(job_id))


def test_a_worker_that_was_held_up_past_its_lease_ends_its_child_and_leaves_the_job(shop: Workshop) -> None:
    def stall() -> None:
        shop.meanwhile = lambda: None
        shop.clock.advance(2 * LEASE_S)
        shop.store.take_lease(LEASE, "w2", now=shop.clock(), until=shop.clock() + LEASE_S)

    shop.meanwhile = stall
    job_id = shop.submit()
    shop.worker("w1").work(job_id)
    assert [child.killed for child in shop.children] == [True]
    assert shop.job(job_id).state is JobState.RUNNING
    assert shop.store.lease_holder(LEASE, now=shop.clock()) == "w2"


def test_a_cancel_ends_the_child_and_the_job(shop: Workshop) -> None:
    job_id = shop.submit()
    shop.meanwhile = lambda: shop.store.ask_cancel(job_id)
    shop.worker().work(job_id)
    assert [child.killed for child in shop.children] == [True]
    assert shop.job(job_id).state is JobState.CANCELLED


def test_a_job_that_was_ended_from_outside_is_given_a_moment_and_then_no_more(shop: Workshop) -> None:
    job_id = shop.submit()
    shop.meanwhile = lambda: shop.store.end(job_id, JobState.CANCELLED, at=0.0, result={})
    shop.worker().work(job_id)
    assert [child.killed for child in shop.children] == [True]
    assert shop.job(job_id).state is JobState.CANCELLED


def test_a_job_cancelled_while_it_waits_is_never_begun(shop: Workshop) -> None:
    job_id = shop.submit()
    shop.store.ask_cancel(job_id)
    shop.worker().work(job_id)
    assert shop.children == []
    assert shop.job(job_id).state is JobState.CANCELLED


def test_past_its_time_a_job_is_ended_and_has_failed(shop: Workshop) -> None:
    job_id = shop.submit()
    began = shop.clock()
    shop.worker().work(job_id)
    assert [child.killed for child in shop.children] == [True]
    assert shop.clock() >= began + TIMEOUT_S
    assert shop.job(job_id).state is JobState.FAILED
    assert "APPSHELF_RETRAIN_TIMEOUT_S" in error_of(shop.job(job_id))


def test_a_worker_that_stops_ends_its_child_and_gives_the_job_back_at_once(shop: Workshop) -> None:
    stop = Event()
    shop.meanwhile = stop.set
    job_id = shop.submit()
    shop.worker("w1", stop=stop).work(job_id)
    assert [child.killed for child in shop.children] == [True]
    assert (shop.job(job_id).state, shop.job(job_id).attempt) == (JobState.QUEUED, 0)
    assert shop.worker("w2").waiting() == job_id


def test_a_child_outlives_a_store_that_is_away_for_a_while(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    away = [False]
    real = shop.store.all

    def all_jobs(*, limit: int) -> tuple[Job, ...]:
        if away[0]:
            raise StoreUnavailable("redis", "gone")
        return real(limit=limit)

    monkeypatch.setattr(shop.store, "all", all_jobs)

    def doing(child: Child) -> int | None:
        away[0] = 10 < child.looks < 40
        return None if child.looks < 60 else shop.finish(child)

    shop.doing = doing
    job_id = shop.submit()
    shop.worker().work(job_id)
    assert [child.killed for child in shop.children] == [False]
    assert (shop.job(job_id).state, shop.job(job_id).attempt) == (JobState.SUCCEEDED, 1)


def test_a_job_that_cannot_be_begun_since_the_store_is_away_is_found_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id, worker = shop.submit(), shop.worker()
    shop.doing = shop.finish

    def begin(*_: object, **__: object) -> None:
        raise StoreUnavailable("redis", "gone")

    with monkeypatch.context() as patch:
        patch.setattr(shop.store, "begin", begin)
        worker.work(job_id)
    assert worker.waiting() == job_id
    worker.work(job_id)
    assert shop.job(job_id).state is JobState.SUCCEEDED
