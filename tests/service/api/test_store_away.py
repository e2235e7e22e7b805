"""A store that goes away under a serving process: what still works, what says so, and that it comes back by itself."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread
from typing import Any

import pytest

from service.container import Container
from service.errors import StoreUnavailable
from service.store.sqlite import Database
from tests.service.store_front import APPS, LIVE, PASSED
from tests.service.wire import ADMIN, Client, problem, soon

RANK = {"user": {"id": "u1"}, "context": {"daytime": "morning"}}
EVENT = {"id": "e1", "kind": "install", "app_id": APPS[0], "user_id": "u1"}
BACKGROUND = ("follower", "prepare", "impressions", "settling", "trimming")


class Outage:
    """While it is on, whoever asks the store is told that it is away. asked: the threads that did, but for those
    beside the requests."""

    def __init__(self) -> None:
        self.on = Event()
        self.asked: list[str] = []

    def look(self) -> None:
        name = current_thread().name
        if not name.startswith(BACKGROUND):
            self.asked.append(name)
        if self.on.is_set():
            raise StoreUnavailable("redis://store:6379/0", "connection refused")


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Outage:
    outage, rows, state, writing = Outage(), Database.rows, Database.state, Database.writing

    def seen_rows(self: Database, *asked: Any) -> Any:  # noqa: ANN401  # as the method it stands before
        outage.look()
        return rows(self, *asked)

    def seen_state(self: Database) -> Any:  # noqa: ANN401  # as the method it stands before
        outage.look()
        return state(self)

    @contextmanager
    def seen_writing(self: Database) -> Iterator[Any]:
        outage.look()
        with writing(self) as connection:
            yield connection

    monkeypatch.setattr(Database, "rows", seen_rows)
    monkeypatch.setattr(Database, "state", seen_state)
    monkeypatch.setattr(Database, "writing", seen_writing)
    return outage


def degraded(client: Client, user: str = "u1") -> list[str]:
    response = client.post("/rank", json={**RANK, "user": {"id": user}})
    assert response.status_code == 200, response.text
    assert len(response.json()["items"]) == 10
    missing: list[str] = response.json()["degraded"]
    return missing


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users", {"users": [{"id": "u9"}]}),
        ("GET", "/users/u1", None),
        ("DELETE", "/users/u1", None),
        ("PUT", "/apps", {"apps": [{"id": "com.new"}]}),
        ("GET", "/apps/com.app00", None),
        ("DELETE", "/apps/com.app00", None),
        ("POST", "/events", {"events": [EVENT]}),
        ("GET", "/admin/versions", None),
        ("POST", "/admin/reload", {"version": PASSED}),
        ("POST", "/admin/rollback", None),
    ],
)
def test_what_needs_the_store_says_that_it_is_away_and_when_to_try_again(
    client: Client, outage: Outage, method: str, path: str, body: dict[str, Any] | None
) -> None:
    outage.on.set()
    response = client.request(method, path, json=body, headers=ADMIN)
    found = problem(response, 503)
    assert found["type"] == "urn:appshelf:problem:store-unavailable"
    assert "connection refused" in found["detail"]
    assert int(response.headers["Retry-After"]) >= 1


def test_a_ranking_names_what_was_missing_and_only_that(client: Client, outage: Outage) -> None:
    assert degraded(client) == []
    outage.on.set()
    assert degraded(client) == ["feature_store"]
    assert degraded(client, "never seen by this process") == ["feature_store", "local_copy"]


def test_a_ranking_from_a_copy_is_the_ranking_from_the_store(client: Client, outage: Outage) -> None:
    before = client.post("/rank", json=RANK).json()["items"]
    outage.on.set()
    assert client.post("/rank", json=RANK).json()["items"] == before


def test_when_the_store_is_back_rankings_are_whole_again_without_a_restart(client: Client, outage: Outage) -> None:
    degraded(client)
    outage.on.set()
    for _ in range(20):
        degraded(client)
    outage.on.clear()
    assert soon(lambda: degraded(client) == [])


def test_rankings_do_not_ask_again_and_again_a_store_that_is_away(client: Client, outage: Outage) -> None:
    outage.on.set()
    outage.asked.clear()
    for _ in range(200):
        degraded(client)
    assert len(outage.asked) < 100


def test_probes_and_metrics_answer_and_never_ask_the_store(client: Client, outage: Outage) -> None:
    outage.on.set()
    degraded(client)
    outage.asked.clear()
    for path in ("/livez", "/readyz", "/healthz", "/version"):
        assert client.get(path).status_code == 200
    counted = client.get("/metrics")
    assert counted.status_code == 200
    assert 'appshelf_degraded_answers_total{missing="feature_store"}' in counted.text
    assert outage.asked == []


def test_the_live_version_stays_while_the_store_is_away_and_may_change_when_it_is_back(
    client: Client, container: Container, outage: Outage
) -> None:
    outage.on.set()
    problem(client.post("/admin/reload", json={"version": PASSED}, headers=ADMIN), 503)
    assert client.get("/version").json()["live"] == LIVE
    outage.on.clear()
    assert container.registry.live() == LIVE
    assert client.post("/admin/reload", json={"version": PASSED}, headers=ADMIN).status_code == 200
    assert client.get("/version").json()["live"] == PASSED


def test_an_event_that_was_not_taken_is_taken_when_it_is_sent_again(client: Client, outage: Outage) -> None:
    outage.on.set()
    problem(client.post("/events", json={"events": [EVENT]}), 503)
    outage.on.clear()
    (result,) = client.post("/events", json={"events": [EVENT]}).json()["results"]
    assert result["status"] not in ("duplicate", "rejected")
