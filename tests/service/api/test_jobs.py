"""`/admin/retrain` and `/admin/jobs`."""

import time

import pytest

from service.container import Container
from service.store.job_ports import Job, JobLine, JobState
from tests.service.store_front import LIVE
from tests.service.wire import ADMIN, Client, pointers, problem


def asked(client: Client, **options: object) -> str:
    response = client.post("/admin/retrain", json=options, headers=ADMIN)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def test_a_retrain_is_taken_on_and_its_place_is_told(client: Client) -> None:
    response = client.post("/admin/retrain", headers=ADMIN)
    job = response.json()
    assert response.status_code == 202
    assert response.headers["location"] == f"/admin/jobs/{job['id']}"
    assert (job["kind"], job["state"], job["attempt"]) == ("retrain", "queued", 0)
    assert client.get(response.headers["location"], headers=ADMIN).json()["id"] == job["id"]


def test_its_options_are_those_asked_for_and_the_settings_for_the_rest(client: Client) -> None:
    job_id = asked(client, mode="full", window_days=7, **{"from": LIVE}, promote=False)
    options = client.get(f"/admin/jobs/{job_id}", headers=ADMIN).json()["options"]
    assert (options["mode"], options["window_days"], options["replay"]) == ("full", 7.0, 1.0)
    assert (options["start_from"], options["promote"], options["scratch"]) == (LIVE, False, False)


def test_a_second_is_a_conflict_that_names_the_first(client: Client) -> None:
    first = asked(client)
    response = client.post("/admin/retrain", headers=ADMIN)
    refused = problem(response, 409)
    assert refused["type"] == "urn:appshelf:problem:retrain-under-way"
    assert refused["job"] == first
    assert response.headers["location"] == f"/admin/jobs/{first}"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"mode": "half"}, "/mode"),
        ({"window_days": 0}, "/window_days"),
        ({"window_days": "7"}, "/window_days"),
        ({"replay": -1}, "/replay"),
        ({"from": "../secrets"}, "/from"),
        ({"start_from": LIVE}, "/start_from"),
        ({"scratch": "yes"}, "/scratch"),
        ({"epochs": 5}, "/epochs"),
    ],
)
def test_an_option_that_is_not_allowed_is_named(reader: Client, body: dict[str, object], pointer: str) -> None:
    assert pointers(reader.post("/admin/retrain", json=body, headers=ADMIN)) == [pointer]


def test_options_that_do_not_go_together_are_refused(reader: Client) -> None:
    body = {"scratch": True, "mode": "incremental"}
    refused = problem(reader.post("/admin/retrain", json=body, headers=ADMIN), 422)
    assert "whole window" in refused["detail"]


def test_a_version_to_start_from_that_is_none_is_refused_before_anything_is_queued(reader: Client) -> None:
    body = {"from": "20200101T000000Z-aaaaaa"}
    problem(reader.post("/admin/retrain", json=body, headers=ADMIN), 404)
    assert reader.get("/admin/jobs", headers=ADMIN).json()["jobs"] == []


def test_jobs_are_listed_newest_first_and_no_more_than_asked_for(client: Client, container: Container) -> None:
    for number in range(3):
        container.jobs.add(Job(f"j{number}", "retrain", {}, "ana", 1000.0 + number, JobState.FAILED))
    listed = client.get("/admin/jobs?limit=2", headers=ADMIN).json()["jobs"]
    assert [job["id"] for job in listed] == ["j2", "j1"]
    assert "lines" not in listed[0]
    assert pointers(client.get("/admin/jobs?limit=0", headers=ADMIN)) == ["/query/limit"]


def test_a_job_is_shown_with_its_progress_lines_and_result(client: Client, container: Container) -> None:
    job_id = asked(client)
    container.jobs.begin(job_id, at=1000.0)
    container.jobs.report(job_id, {"step": "train", "epoch": 2})
    container.jobs.say(job_id, JobLine(1001.5, "positives 7"))
    container.jobs.end(job_id, JobState.SUCCEEDED, at=1002.0, result={"version": LIVE, "promoted": False})
    job = client.get(f"/admin/jobs/{job_id}", headers=ADMIN).json()
    assert (job["state"], job["attempt"], job["progress"]) == ("succeeded", 1, {"step": "train", "epoch": 2})
    assert job["lines"] == [{"at": "1970-01-01T00:16:41.500+00:00", "text": "positives 7"}]
    assert job["result"] == {"version": LIVE, "promoted": False}


def test_a_job_that_waits_is_cancelled_at_once_and_another_may_follow(client: Client) -> None:
    job_id = asked(client)
    cancelled = client.post(f"/admin/jobs/{job_id}/cancel", headers=ADMIN)
    assert (cancelled.status_code, cancelled.json()["state"]) == (200, "cancelled")
    assert problem(client.post(f"/admin/jobs/{job_id}/cancel", headers=ADMIN), 409)["type"].endswith("job-ended")
    assert asked(client) != job_id


def test_a_job_that_runs_is_asked_to_end(client: Client, container: Container) -> None:
    job_id, now = asked(client), time.time()
    container.jobs.take_lease("retrain", "w1", now=now, until=now + 600)
    container.jobs.begin(job_id, at=now)
    asked_to = client.post(f"/admin/jobs/{job_id}/cancel", headers=ADMIN).json()
    assert (asked_to["state"], asked_to["cancel_asked"]) == ("running", True)


@pytest.mark.parametrize("path", ["/admin/jobs/nobody", "/admin/jobs/%2e%2e", f"/admin/jobs/{'x' * 80}"])
def test_an_unknown_job_is_not_found(reader: Client, path: str) -> None:
    problem(reader.get(path, headers=ADMIN), 404)


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/admin/retrain"), ("GET", "/admin/jobs"), ("GET", "/admin/jobs/j1"), ("POST", "/admin/jobs/j1/cancel")],
)
def test_every_call_needs_the_admin_key(reader: Client, method: str, path: str) -> None:
    problem(reader.request(method, path), 401)
