"""Calls that hang hold up no others than their own kind."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event, current_thread
from typing import Any

import pytest

from service.api.lanes import STORED, WIDTHS
from service.store.sqlite import Database
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


def test_a_path_of_no_kind_is_answered_as_before(client: Client) -> None:
    assert client.get("/").status_code == 404
    assert client.get("//rank").status_code == 404
    assert client.get("/docs").status_code == 200
