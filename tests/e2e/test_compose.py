"""`docker compose up` with nothing edited, and what may happen to it. The tests share one project, in this order."""

import json
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from service.api.messages import RankRequest
from service.settings import Settings
from tests.e2e import compose
from tests.e2e.compose import BASE, IMAGE, KEY, WINDOW_S, Stack, crash, inspect, live_versions, soon, state
from tests.e2e.visitors import SHOWN, Traffic, a_day_of_new_fashion, demo_world, statuses, traffic_on

pytestmark = pytest.mark.compose

ROLES = ["nginx", "api", "worker", "redis"]
ASKED = RankRequest.model_validate({"user": {"id": "u1"}}).model_dump(mode="json", exclude_unset=True)
OVER_BASE_BYTES = 1_200_000_000
JOB_S = 600.0


@pytest.fixture(scope="module")
def stack() -> Iterator[Stack]:
    with compose.stack() as stack:
        stack.await_ready()
        yield stack


@pytest.fixture(scope="module")
def key(stack: Stack) -> str:
    (printed,) = KEY.findall(stack.logs("api"))
    return str(printed)


@pytest.fixture
def admin(stack: Stack, key: str) -> Iterator[httpx.Client]:
    with stack.client(key) as client:
        yield client


@pytest.fixture
def three_replicas(stack: Stack) -> list[str]:
    stack.compose("up", "-d", "--scale", "api=3")
    stack.await_ready()
    replicas = stack.containers("api")
    assert len(replicas) == 3
    return replicas


def rank(stack: Stack) -> dict[str, Any]:
    with stack.client() as client:
        answer = client.post("/rank", json=ASKED)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def live(stack: Stack) -> str:
    return str(rank(stack)["version"])


def healthy(container: str) -> bool:
    return bool(state(container)["Health"]["Status"] == "healthy")


def each_reports(replicas: list[str], version: str) -> bool:
    """Whether every process of every replica comes to say that this version is live."""
    return soon(lambda: all(live_versions(one) == {version} for one in replicas), patience_s=60)


def counted(stack: Stack) -> int:
    """The events in the log."""
    (worker,) = stack.containers("worker")
    said = compose.run("docker", "exec", worker, "appshelf", "log", "stats", "--json")
    return int(json.loads(said)["events"])


def all_there(stack: Stack, traffic: Traffic, *, before: int) -> bool:
    """Whether every event that was acknowledged is in the log: sent again it is a duplicate, and the count agrees."""
    new = counted(stack) - before
    assert len(traffic.taken) <= new <= len(traffic.taken) + traffic.refused
    with stack.client() as client:
        return statuses(client, traffic.taken) == {"duplicate"}


def served(traffic: Traffic) -> bool:
    """Whether there was traffic and no ranking failed."""
    assert traffic.failed == []
    return traffic.ranked > 0 and len(traffic.taken) > 0


def test_ten_apps_are_ranked_without_an_edit(stack: Stack) -> None:
    answer = rank(stack)
    assert [item["rank"] for item in answer["items"]] == list(range(1, SHOWN + 1))
    assert answer["degraded"] == []


def test_the_admin_key_is_printed_once_and_opens_the_admin_calls(stack: Stack, admin: httpx.Client) -> None:
    assert [len(KEY.findall(stack.logs(role))) for role in ROLES] == [0, 1, 0, 0]
    assert admin.get("/admin/versions").status_code == 200
    with stack.client() as stranger:
        assert stranger.get("/admin/versions").status_code == 401


def test_only_nginx_is_reachable_and_only_from_this_machine(stack: Stack) -> None:
    published = {
        role: [
            (port["HostIp"], int(port["HostPort"]))
            for container in stack.containers(role)
            for ports in inspect(container)["NetworkSettings"]["Ports"].values()
            for port in ports or []
        ]
        for role in ROLES
    }
    assert published == {"nginx": [("127.0.0.1", stack.port)], "api": [], "worker": [], "redis": []}


@pytest.mark.parametrize("role", ROLES)
def test_no_role_runs_as_root_or_can_write_its_root(stack: Stack, role: str) -> None:
    (container,) = stack.containers(role)
    tried = "id -u; touch /written && echo wrote; touch /tmp/written && echo wrote to tmp"
    said = subprocess.run(["docker", "exec", container, "sh", "-c", tried], capture_output=True, text=True, check=False)
    user, *wrote = said.stdout.splitlines()
    assert int(user) > 0
    assert wrote == ["wrote to tmp"]
    assert inspect(container)["HostConfig"]["CapDrop"] == ["ALL"]


def test_the_image_is_no_larger_than_promised(stack: Stack) -> None:
    assert inspect(IMAGE)["Size"] - inspect(BASE)["Size"] <= OVER_BASE_BYTES


def test_nginx_answers_for_itself_as_the_api_would(stack: Stack) -> None:
    with stack.client() as client:
        long = client.post("/rank", content=b" " * (Settings().max_body_bytes + 1), headers={"X-Request-ID": "mine"})
        metrics = client.get("/metrics")
        trace = client.request("TRACE", "/livez")
        far = client.get("/" + "a" * 20_000)
        unreadable = client.get("/users/%00")
        unnamed = client.post("/rank", json=ASKED, headers={"X-Request-ID": 'no "id"'})
        named = client.post("/rank", json=ASKED, headers={"X-Request-ID": "mine"})
    for answer, status in ((long, 413), (metrics, 404), (trace, 405), (far, 414), (unreadable, 400)):
        assert answer.status_code == status
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["status"] == status
    assert long.json()["request_id"] == long.headers["X-Request-ID"] == "mine"
    assert named.headers["X-Request-ID"] == "mine"
    assert unnamed.headers["X-Request-ID"] == unnamed.json()["request_id"] != 'no "id"'


def test_what_came_back_becomes_the_next_version_which_serves_through_the_published_port(
    stack: Stack, admin: httpx.Client
) -> None:
    before = live(stack)
    world = demo_world()
    taken = [event for seed in (1, 2) for event in a_day_of_new_fashion(stack, world, seed=seed)]
    assert len(taken) > 1_000
    closed = time.monotonic() + WINDOW_S + 1
    assert soon(lambda: time.monotonic() > closed, patience_s=2 * WINDOW_S)
    asked = admin.post("/admin/retrain", json={"replay": 0})
    assert asked.status_code == 202, asked.text
    job = ended(admin, asked.headers["Location"])
    assert job["state"] == "succeeded", told(job)
    made = job["result"]["version"]
    report = admin.get(f"/admin/versions/{made}").json()
    assert report["state"] == "live", told(job)
    assert made != before
    assert soon(lambda: live(stack) == made, patience_s=60)


def test_every_replica_reports_the_new_version_and_every_swap_reaches_all(
    stack: Stack, admin: httpx.Client, three_replicas: list[str]
) -> None:
    newest = live(stack)
    assert each_reports(three_replicas, newest)
    with traffic_on(stack) as traffic:
        back = admin.post("/admin/rollback")
        assert back.status_code == 200, back.text
        older = back.json()["version"]
        assert each_reports(three_replicas, older)
        again = admin.post("/admin/reload", json={"version": newest})
        assert again.status_code == 200, again.text
    assert older != newest
    assert len(back.json()["processes"]) == 6
    assert set(again.json()["processes"].values()) == {newest}
    assert each_reports(three_replicas, newest)
    assert served(traffic)


def test_a_worker_that_is_told_to_end_ends_well(stack: Stack) -> None:
    (worker,) = stack.containers("worker")
    compose.run("docker", "stop", "--time", "40", worker)
    assert state(worker)["ExitCode"] == 0
    compose.run("docker", "start", worker)


def test_an_api_that_is_told_to_end_ends_well_and_no_request_notices(stack: Stack, three_replicas: list[str]) -> None:
    with traffic_on(stack) as traffic:
        compose.run("docker", "stop", "--time", "40", three_replicas[0])
    assert state(three_replicas[0])["ExitCode"] == 0
    assert served(traffic)
    assert traffic.refused == 0
    compose.run("docker", "start", three_replicas[0])
    stack.await_ready()


def test_an_api_that_is_killed_comes_back_and_what_it_acknowledged_is_kept(
    stack: Stack, three_replicas: list[str]
) -> None:
    before = counted(stack)
    with traffic_on(stack) as traffic:
        crash(three_replicas[1])
    stack.await_ready()
    assert served(traffic)
    assert all_there(stack, traffic, before=before)
    assert each_reports(three_replicas, live(stack))


def test_redis_that_is_killed_costs_no_ranking_and_has_all_it_acknowledged(
    stack: Stack, three_replicas: list[str]
) -> None:
    (redis,) = stack.containers("redis")
    version, before = live(stack), counted(stack)
    with traffic_on(stack) as traffic:
        crash(redis)
        assert soon(lambda: healthy(redis), patience_s=60)
    stack.await_ready()
    assert served(traffic)
    assert all_there(stack, traffic, before=before)
    assert each_reports(three_replicas, version)


def test_redis_that_is_away_for_a_while_costs_no_ranking_and_nobody_is_started_again(
    stack: Stack, three_replicas: list[str]
) -> None:
    (redis,) = stack.containers("redis")
    began, before = [state(one)["StartedAt"] for one in three_replicas], counted(stack)
    with traffic_on(stack) as traffic:
        compose.run("docker", "stop", redis)
        assert live(stack)
        compose.run("docker", "start", redis)
        assert soon(lambda: healthy(redis), patience_s=60)
    assert served(traffic)
    assert "feature_store" in traffic.degraded
    assert soon(lambda: rank(stack)["degraded"] == [], patience_s=60)
    assert [state(one)["StartedAt"] for one in three_replicas] == began
    assert all_there(stack, traffic, before=before)


def test_a_worker_that_is_killed_in_a_retrain_does_it_in_the_end(stack: Stack, admin: httpx.Client) -> None:
    (worker,) = stack.containers("worker")
    asked = admin.post("/admin/retrain", json={"mode": "full", "promote": False})
    assert asked.status_code == 202, asked.text
    place, before = asked.headers["Location"], counted(stack)
    with traffic_on(stack) as traffic:
        assert soon(lambda: admin.get(place).json()["state"] == "running", patience_s=60)
        crash(worker)
        job = ended(admin, place)
    assert job["state"] == "succeeded", told(job)
    assert job["attempt"] >= 2
    assert served(traffic)
    assert all_there(stack, traffic, before=before)


def test_with_no_api_at_all_nginx_says_so_in_a_problem(stack: Stack) -> None:
    for container in stack.containers("api"):
        compose.run("docker", "stop", "--time", "40", container)
    with stack.client() as client:
        answer = client.post("/rank", json=ASKED)
    assert answer.status_code == 503
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.headers["Retry-After"] == "1"
    assert answer.json()["request_id"] == answer.headers["X-Request-ID"]


def test_what_was_live_and_the_admin_key_outlast_the_containers(stack: Stack, key: str) -> None:
    stack.compose("up", "-d", "--scale", "api=1")
    stack.await_ready()
    before = live(stack)
    stack.compose("down", "--timeout", "40")
    stack.compose("up", "-d")
    stack.await_ready()
    assert live(stack) == before
    assert KEY.findall(stack.logs("api")) == []
    with stack.client(key) as admin:
        assert admin.get(f"/admin/versions/{before}").json()["state"] == "live"


def ended(admin: httpx.Client, place: str) -> dict[str, Any]:
    """A job once it has ended, or as it is when the time is up."""

    def over() -> bool:
        return admin.get(place).json()["state"] not in ("queued", "running")

    soon(over, patience_s=JOB_S)
    job: dict[str, Any] = admin.get(place).json()
    return job


def told(job: dict[str, Any]) -> str:
    """A job's lines and its result, for whoever reads a failure."""
    return "\n".join([*(line["text"] for line in job["lines"]), json.dumps(job["result"], indent=1)])
