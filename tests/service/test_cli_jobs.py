"""`appshelf retrain`, `jobs` and `worker` in process; what trains is a real child."""

import json
import time
from threading import Thread

from service.container import Container
from service.errors import JobEnded, JobUnderWay, RetrainRefused, UnknownJob, UnknownVersion
from service.jobs.queue import PRESENCE
from service.store.job_ports import Job, JobLine, JobState
from tests.service.command_line import Run, refusal
from tests.service.store_front import LIVE
from tests.service.wire import soon


def test_where_no_worker_is_up_a_retrain_is_done_here_and_says_why_it_failed(run: Run) -> None:
    result = run("retrain")
    assert result.exit_code == 1
    assert result.stdout.startswith("failed: the log has no impression")
    assert "window ..." in result.stderr


def test_as_json_it_is_the_whole_job(run: Run) -> None:
    job = json.loads(run("retrain", "--mode", "full", "--window-days", "3", "--json").stdout)
    assert (job["state"], job["attempt"], job["options"]["window_days"]) == ("failed", 1, 3.0)
    assert job["who"] == "command line, ann"
    assert "no impression" in job["result"]["error"]


def test_without_waiting_it_is_queued_and_a_burst_of_a_worker_does_it(run: Run, container: Container) -> None:
    queued = run("retrain", "--no-wait")
    job_id = queued.stdout.strip()
    assert "no worker is up" in queued.stderr
    assert container.queue.get(job_id).state is JobState.QUEUED
    assert "1 job(s) done" in run("worker", "--burst").stderr
    assert container.queue.get(job_id).state is JobState.FAILED
    assert "0 job(s) done" in run("worker", "--burst").stderr


def test_where_a_worker_is_up_it_is_waited_for(run: Run, container: Container) -> None:
    container.jobs.take_lease(PRESENCE, "w1", now=time.time(), until=time.time() + 600)

    def work() -> None:
        soon(lambda: container.queue.unfinished() is not None)
        job = container.queue.unfinished()
        assert job is not None
        container.jobs.end(job.id, JobState.SUCCEEDED, at=time.time(), result={"version": LIVE, "promoted": True})

    elsewhere = Thread(target=work)
    elsewhere.start()
    result = run("retrain")
    elsewhere.join()
    assert (result.exit_code, result.stdout) == (0, f"{LIVE} is live\n")


def test_a_second_is_refused_naming_the_first(run: Run) -> None:
    first = run("retrain", "--no-wait").stdout.strip()
    second = run("retrain")
    assert isinstance(second.exception, JobUnderWay)
    assert first in refusal(second)


def test_options_that_are_not_allowed_are_refused(run: Run) -> None:
    assert isinstance(run("retrain", "--scratch", "--compact").exception, RetrainRefused)
    assert isinstance(run("retrain", "--from", "20200101T000000Z-aaaaaa").exception, UnknownVersion)


def test_jobs_are_listed_and_shown_and_cancelled(run: Run, container: Container) -> None:
    container.jobs.add(Job("j1", "retrain", {}, "ana", 1000.0, lines=(JobLine(1001.0, "positives 7"),)))
    assert "j1" in run("jobs").stdout
    assert [job["id"] for job in json.loads(run("jobs", "--json").stdout)] == ["j1"]
    shown = run("jobs", "j1").stdout
    assert "1970-01-01 00:16:41  positives 7" in shown
    assert "queued" in shown
    assert "cancelled by command line, ann" in run("jobs", "j1", "--cancel").stdout
    assert isinstance(run("jobs", "j1", "--cancel").exception, JobEnded)
    assert isinstance(run("jobs", "nobody").exception, UnknownJob)


def test_what_is_no_jobs_id_and_a_list_beyond_all_bounds_are_refused(run: Run) -> None:
    assert isinstance(run("jobs", "\udcff").exception, UnknownJob)
    assert isinstance(run("jobs", "../../etc/passwd", "--cancel").exception, UnknownJob)
    assert run("jobs", "--limit", str(10**30)).exit_code == 2
