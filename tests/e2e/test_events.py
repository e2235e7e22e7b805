"""Events under fire: what was acknowledged is there, whichever processes were killed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event, Thread
from uuid import uuid4

import httpx
import psutil
import pytest

from service.home import Home
from service.store.log_ports import EventLog
from service.store.sqlite_backend import open_sqlite
from tests.e2e.load import RANK
from tests.e2e.server import END_S, START_S, Server, running
from tests.service.wire import soon

pytestmark = pytest.mark.e2e

SENDERS, BATCH = 4, 25
EVER = (0.0, 1e12)


@dataclass
class Sender:
    """Ranks and sends events again and again, each batch until it is acknowledged; keeps the ids of those that were."""

    server: Server
    stop: Event
    acknowledged: set[str] = field(default_factory=set)
    unexpected: list[str] = field(default_factory=list)

    def run(self) -> None:
        while not self.stop.is_set():
            try:
                with self.server.client() as client:
                    while not self.stop.is_set():
                        self._send(client)
            except httpx.TransportError:
                time.sleep(0.02)  # the connection went with the process that held it

    def _send(self, client: httpx.Client) -> None:
        answer = client.post("/rank", json=RANK).json()
        shown = {"request_id": answer["request_id"], "app_id": answer["items"][0]["app_id"]}
        ids = [uuid4().hex for _ in range(BATCH)]
        response = client.post("/events", json={"events": [{"id": one, "kind": "click", **shown} for one in ids]})
        if response.status_code != 200:
            self.unexpected.append(response.text)
            return
        results = response.json()["results"]
        self.acknowledged |= {one["id"] for one in results if one["status"] in ("accepted", "orphan")}
        self.unexpected += [str(one) for one in results if one["status"] not in ("accepted", "orphan")]


@contextmanager
def sending(server: Server) -> Iterator[list[Sender]]:
    """Senders at work on this server until the block ends."""
    stop = Event()
    senders = [Sender(server, stop) for _ in range(SENDERS)]
    threads = [Thread(target=sender.run) for sender in senders]
    for thread in threads:
        thread.start()
    try:
        yield senders
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def acknowledged(senders: list[Sender]) -> set[str]:
    return {event_id for sender in senders for event_id in list(sender.acknowledged)}


def more_acknowledged(senders: list[Sender]) -> bool:
    """Whether another ten batches come to be acknowledged, be it by a worker that is only starting."""
    before, patience = len(acknowledged(senders)), time.monotonic() + START_S
    while len(acknowledged(senders)) < before + 10 * BATCH and time.monotonic() < patience:
        time.sleep(0.02)
    return len(acknowledged(senders)) >= before + 10 * BATCH


def log_of(home: Path) -> EventLog:
    return open_sqlite(Home(home), time.time).log


def test_every_acknowledged_event_is_there_after_all_processes_were_killed_at_once(home: Path) -> None:
    with running(home, workers=2) as server, sending(server) as senders:
        assert more_acknowledged(senders)
        processes = [psutil.Process(server.process.pid), *server.workers()]
        for process in processes:
            process.suspend()  # so that no one of them sees another die
        for process in processes:
            process.kill()
        server.process.wait(END_S)
    kept = {one.id for one in log_of(home).feedback(*EVER)}
    assert acknowledged(senders) - kept == set()
    assert len(kept) >= 10 * BATCH
    with running(home) as again, again.client() as client:
        assert client.post("/rank", json=RANK).status_code == 200
        told = {"id": kept.pop(), "kind": "click", "app_id": "com.other", "user_id": "u1"}
        assert client.post("/events", json={"events": [told]}).json()["results"][0]["status"] == "rejected"


def test_workers_killed_one_after_another_lose_no_acknowledged_event_and_the_server_goes_on(home: Path) -> None:
    with running(home, workers=2) as server, sending(server) as senders:
        for _ in range(3):
            assert more_acknowledged(senders)
            killed = server.workers()[0]
            killed.kill()
            killed.wait(END_S)
            assert soon(lambda: len(server.workers()) == 2)
        assert more_acknowledged(senders)
    kept = {one.id for one in log_of(home).feedback(*EVER)}
    assert acknowledged(senders) - kept == set()
    assert [text for sender in senders for text in sender.unexpected] == []


def test_installs_taken_by_any_worker_are_in_the_history_and_survive_the_end_of_the_server(home: Path) -> None:
    installs = [
        {"id": f"e{number}", "kind": "install", "app_id": f"com.bought{number:02}", "user_id": "buyer"}
        for number in range(30)
    ]
    with running(home, workers=2) as server:
        for install in installs:  # each on a connection of its own, so both workers take some
            with server.client() as client:
                assert client.post("/events", json={"events": [install]}).status_code == 200
        with server.client() as client:
            assert soon(lambda: len(client.get("/users/buyer").json().get("installed", [])) == len(installs))
        assert server.stop() == 0
    record = open_sqlite(Home(home), time.time).features.get_user("buyer")
    assert record is not None
    assert list(record.history) == [install["app_id"] for install in installs]


def test_impressions_are_all_in_the_log_when_a_server_was_told_to_end(home: Path) -> None:
    with running(home, workers=2) as server:
        with server.client() as client:
            ids = [client.post("/rank", json=RANK).json()["request_id"] for _ in range(50)]
        assert server.stop() == 0
    assert {one.request_id for one in log_of(home).impressions(*EVER)} == set(ids)
