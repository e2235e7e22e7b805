"""The contract of a JobStore."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from threading import Barrier
from typing import Any

import pytest

from service.store.job_ports import LINES_KEPT, Job, JobLine, JobState, JobStore
from tests.service.store.backends import Backend

OPTIONS: dict[str, Any] = {
    "mode": "full",
    "window_days": 7.5,
    "scratch": False,
    "of": None,
    "list": [1, "zwei", "três"],
}


@pytest.fixture
def jobs(backend: Backend) -> JobStore:
    return backend.jobs


def job(name: str = "j1", **given: Any) -> Job:  # noqa: ANN401  # fields of any type
    return replace(Job(name, "retrain", OPTIONS, "ana", 1000.0), **given)


def kept(jobs: JobStore, name: str = "j1") -> Job:
    found = jobs.get(name)
    assert found is not None
    return found


def test_a_job_is_there_as_it_was_put_in(jobs: JobStore) -> None:
    jobs.add(job())
    assert jobs.get("j1") == job()


def test_a_job_that_is_known_already_stays_as_it_is(jobs: JobStore) -> None:
    jobs.add(job())
    jobs.begin("j1", at=1001.0)
    jobs.add(job(who="bob"))
    assert (kept(jobs).who, kept(jobs).state) == ("ana", JobState.RUNNING)


def test_an_unknown_job_is_none_and_nothing_can_be_done_to_it(jobs: JobStore) -> None:
    assert jobs.get("j1") is None
    assert jobs.begin("j1", at=1.0) is None
    assert not jobs.end("j1", JobState.FAILED, at=1.0, result={})
    assert not jobs.ask_cancel("j1")
    jobs.report("j1", {"step": "train"})
    jobs.say("j1", JobLine(1.0, "nobody hears it"))
    assert jobs.get("j1") is None
    jobs.add(job())
    assert jobs.get("j1") == job()


def test_the_newest_jobs_come_first_and_without_their_lines(jobs: JobStore) -> None:
    for number in (2, 1, 3):
        jobs.add(job(f"j{number}", queued_at=1000.0 + number))
        jobs.say(f"j{number}", JobLine(1001.0, "a line"))
    assert [one.id for one in jobs.all(limit=2)] == ["j3", "j2"]
    assert [one.lines for one in jobs.all(limit=10)] == [(), (), ()]


def test_beginning_counts_the_attempts_and_sets_it_running(jobs: JobStore) -> None:
    jobs.add(job())
    assert jobs.begin("j1", at=1001.0) == job(state=JobState.RUNNING, attempt=1, began_at=1001.0)
    assert jobs.begin("j1", at=1002.0) == job(state=JobState.RUNNING, attempt=2, began_at=1002.0)
    assert jobs.get("j1") == job(state=JobState.RUNNING, attempt=2, began_at=1002.0)


def test_an_attempt_that_is_put_back_does_not_count(jobs: JobStore) -> None:
    jobs.add(job())
    jobs.begin("j1", at=1001.0)
    jobs.begin("j1", at=1002.0)
    jobs.put_back("j1")
    assert jobs.get("j1") == job(state=JobState.QUEUED, attempt=1, began_at=1002.0)


def test_only_what_runs_is_put_back(jobs: JobStore) -> None:
    jobs.add(job())
    jobs.put_back("j1")
    jobs.put_back("nothing of that name")
    assert jobs.get("j1") == job()
    jobs.begin("j1", at=1001.0)
    jobs.end("j1", JobState.FAILED, at=1002.0, result={})
    jobs.put_back("j1")
    ended = jobs.get("j1")
    assert ended is not None
    assert (ended.state, ended.attempt) == (JobState.FAILED, 1)


def test_a_job_that_is_cancelled_while_it_waits_says_so_when_it_begins(jobs: JobStore) -> None:
    jobs.add(job())
    assert jobs.ask_cancel("j1")
    begun = jobs.begin("j1", at=1001.0)
    assert begun is not None
    assert begun.cancel_asked


def test_progress_is_replaced_and_lines_are_added(jobs: JobStore) -> None:
    jobs.add(job())
    jobs.report("j1", {"step": "join", "done": 1})
    jobs.report("j1", {"step": "train", "auc": 0.75})
    jobs.say("j1", JobLine(1001.0, "first"))
    jobs.say("j1", JobLine(1000.5, "second, by a clock that went back"))
    assert kept(jobs).progress == {"step": "train", "auc": 0.75}
    assert kept(jobs).lines == (JobLine(1001.0, "first"), JobLine(1000.5, "second, by a clock that went back"))


def test_lines_are_those_of_their_job(jobs: JobStore) -> None:
    jobs.add(job("j1"))
    jobs.add(job("j2"))
    jobs.say("j1", JobLine(1.0, "of one"))
    jobs.say("j2", JobLine(2.0, "of two"))
    assert kept(jobs, "j2").lines == (JobLine(2.0, "of two"),)


def test_past_a_number_of_lines_the_oldest_go(jobs: JobStore) -> None:
    jobs.add(job(lines=tuple(JobLine(float(number), str(number)) for number in range(LINES_KEPT))))
    for number in range(LINES_KEPT, LINES_KEPT + 3):
        jobs.say("j1", JobLine(float(number), str(number)))
    assert [line.text for line in kept(jobs).lines] == [str(number) for number in range(3, LINES_KEPT + 3)]


def test_an_end_stands_with_its_result(jobs: JobStore) -> None:
    jobs.add(job())
    jobs.begin("j1", at=1001.0)
    assert jobs.end("j1", JobState.SUCCEEDED, at=1002.0, result={"version": "v1", "promoted": True})
    ended = kept(jobs)
    assert (ended.state, ended.ended_at, ended.result) == (
        JobState.SUCCEEDED,
        1002.0,
        {"version": "v1", "promoted": True},
    )


def test_what_has_ended_is_not_ended_begun_or_cancelled_again(jobs: JobStore) -> None:
    jobs.add(job())
    assert jobs.end("j1", JobState.CANCELLED, at=1001.0, result={})
    before = jobs.get("j1")
    assert not jobs.end("j1", JobState.SUCCEEDED, at=1002.0, result={"version": "v1"})
    assert jobs.begin("j1", at=1003.0) is None
    assert not jobs.ask_cancel("j1")
    assert jobs.get("j1") == before


def test_of_many_ends_at_once_one_stands(jobs: JobStore) -> None:
    jobs.add(job())
    barrier = Barrier(8)

    def end(number: int) -> bool:
        barrier.wait()
        return jobs.end("j1", JobState.FAILED, at=1000.0 + number, result={"number": number})

    with ThreadPoolExecutor(8) as threads:
        ended = list(threads.map(end, range(8)))
    assert sum(ended) == 1
    assert kept(jobs).result == {"number": ended.index(True)}


def test_old_ended_jobs_are_forgotten_with_their_lines_and_others_stay(jobs: JobStore) -> None:
    for name in ("old", "new", "waiting"):
        jobs.add(job(name))
        jobs.say(name, JobLine(1.0, "a line"))
    jobs.end("old", JobState.FAILED, at=1500.0, result={})
    jobs.end("new", JobState.FAILED, at=2000.0, result={})
    assert jobs.forget(before=2000.0) == 1
    assert jobs.get("old") is None
    assert {one.id for one in jobs.all(limit=10)} == {"new", "waiting"}
    jobs.add(job("old"))
    assert kept(jobs, "old").lines == ()


def test_a_lease_is_its_holders_until_it_is_over(jobs: JobStore) -> None:
    assert jobs.take_lease("retrain", "a", now=1000.0, until=1030.0)
    assert not jobs.take_lease("retrain", "b", now=1029.0, until=1059.0)
    assert jobs.lease_holder("retrain", now=1029.0) == "a"
    assert jobs.lease_holder("retrain", now=1030.0) is None
    assert jobs.take_lease("retrain", "b", now=1030.0, until=1060.0)
    assert jobs.lease_holder("retrain", now=1030.0) == "b"


def test_a_holder_renews_its_lease_and_one_that_lost_it_cannot(jobs: JobStore) -> None:
    jobs.take_lease("retrain", "a", now=1000.0, until=1030.0)
    assert jobs.take_lease("retrain", "a", now=1010.0, until=1040.0)
    assert not jobs.take_lease("retrain", "b", now=1035.0, until=1065.0)
    assert jobs.take_lease("retrain", "b", now=1040.0, until=1070.0)
    assert not jobs.take_lease("retrain", "a", now=1041.0, until=1071.0)


def test_a_lease_that_is_given_back_is_free_and_only_its_holder_can(jobs: JobStore) -> None:
    jobs.take_lease("retrain", "a", now=1000.0, until=1030.0)
    jobs.drop_lease("retrain", "b")
    assert jobs.lease_holder("retrain", now=1001.0) == "a"
    jobs.drop_lease("retrain", "a")
    assert jobs.lease_holder("retrain", now=1001.0) is None
    assert jobs.take_lease("retrain", "b", now=1001.0, until=1031.0)


def test_leases_of_other_names_do_not_matter(jobs: JobStore) -> None:
    assert jobs.take_lease("retrain", "a", now=1000.0, until=1030.0)
    assert jobs.take_lease("demo", "b", now=1000.0, until=1030.0)


def test_of_many_who_take_a_lease_at_once_one_has_it(jobs: JobStore) -> None:
    barrier = Barrier(8)

    def take(number: int) -> bool:
        barrier.wait()
        return jobs.take_lease("retrain", f"w{number}", now=1000.0, until=1030.0)

    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(take, range(8)))
    assert sum(taken) == 1
    assert jobs.lease_holder("retrain", now=1000.0) == f"w{taken.index(True)}"
