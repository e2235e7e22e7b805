"""Calls that hang hold up no others than their own kind."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, current_thread
from typing import Any

import pytest

from service.api.lanes import ADMIN as ADMINISTERED
from service.api.lanes import STORED, WIDTHS
from service.errors import UnknownVersion
from service.store.sqlite import Database
from tests.service.store_front import PASSED
from tests.service.wire import ADMIN, Client, soon

USERS = {"users": [{"id": "u9"}]}


class Hanging:
    """Holds whoever writes to the store for a request until it is let go; `held` counts them."""

    def __init__(self) -> None:
        self.let_go = Event()
        self.held = 0

    def look(self) -> None:
        if current_thread().name.startswith("AnyIO"):
            self.held += 1
            self.let_go.wait(60)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Hanging:
    hanging, writing = Hanging(), Database.writing

    @contextmanager
    def held_writing(self: Database) -> Iterator[Any]:
        hanging.look()
        with writing(self) as connection:
            yield connection

    monkeypatch.setattr(Database, "writing", held_writing)
    return hanging


def test_calls_that_hang_on_the_store_hold_up_no_ranking_no_probe_and_no_admin(
    client: Client, hanging: Hanging
) -> None:
    with ThreadPoolExecutor(20) as threads:
        puts = [threads.submit(client.put, "/users", json=USERS) for _ in range(20)]
        try:
            assert soon(lambda: hanging.held == WIDTHS[STORED])
            for _ in range(5):
                assert client.post("/rank", json={"user": {"id": "u1"}}).status_code == 200
                assert client.get("/readyz").status_code == 200
                assert client.get("/metrics").status_code == 200
                assert client.get("/admin/versions", headers=ADMIN).status_code == 200
            assert hanging.held == WIDTHS[STORED]
        finally:
            hanging.let_go.set()
        assert [put.result().status_code for put in puts] == [200] * 20


def test_jobs_are_asked_for_looked_at_and_cancelled_while_gates_judge(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    let_go, judging = Event(), list[str]()

    def judge(_: object, version: str) -> None:
        judging.append(version)
        let_go.wait(60)
        raise UnknownVersion(version)

    monkeypatch.setattr("service.lifecycle.gate_version", judge)
    with ThreadPoolExecutor(20) as threads:

        def sent(method: str, path: str) -> "Future[Any]":
            return threads.submit(client.request, method, f"/admin/{path}", headers=ADMIN)

        try:
            gates = [sent("POST", f"versions/{PASSED}/gate") for _ in range(WIDTHS[ADMINISTERED])]
            assert soon(lambda: len(judging) == len(gates))
            job = sent("POST", "retrain").result(20).json()["id"]
            assert sent("GET", "jobs").result(20).json()["jobs"][0]["id"] == job
            assert sent("POST", f"jobs/{job}/cancel").result(20).json()["state"] == "cancelled"
        finally:
            let_go.set()
        assert [gate.result().status_code for gate in gates] == [404] * len(gates)


def test_a_path_of_no_kind_is_answered_as_before(client: Client) -> None:
    assert client.get("/").status_code == 404
    assert client.get("//rank").status_code == 404
    assert client.get("/docs").status_code == 200
