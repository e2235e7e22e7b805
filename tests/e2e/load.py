"""Clients that ask without a pause while something happens to the server."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event, Thread
from typing import Any

import httpx

from tests.e2e.server import Server
from tests.service.store_front import APPS

RANK = {"user": {"id": "u1"}, "context": {"daytime": "morning"}, "candidates": APPS}
CLIENTS = 4


@dataclass(frozen=True)
class Asked:
    """One request: its path, when it began and ended (monotonic), its status, who answered, what was missing."""

    path: str
    began: float
    ended: float
    status: int
    version: str | None
    degraded: tuple[str, ...] = ()


@dataclass
class Load:
    """What the clients have seen so far."""

    asked: list[Asked] = field(default_factory=list)

    def failures(self) -> list[Asked]:
        """Every answer that was no 200."""
        return [one for one in self.asked if one.status != 200]

    def versions(self) -> set[str]:
        """Every version that answered a ranking."""
        return {one.version for one in self.asked if one.version}


@contextmanager
def load_on(server: Server, rank: Mapping[str, Any] = RANK) -> Iterator[Load]:
    """Rankings of `rank` from several connections and a probe of readiness, from the start of the block to its end."""
    load, stop = Load(), Event()
    threads = [Thread(target=_ask, args=(server, load, (rank, stop))) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _ask(server: Server, load: Load, work: tuple[Mapping[str, Any], Event]) -> None:
    """New connections now and then, so that every worker has its share."""
    rank, stop = work
    while not stop.is_set():
        with httpx.Client(base_url=server.url, timeout=60) as client:
            for _ in range(20):
                load.asked += [_one(client, "/rank", rank), _one(client, "/readyz", None)]


def _one(client: httpx.Client, path: str, body: Mapping[str, Any] | None) -> Asked:
    began = time.monotonic()
    response = client.post(path, json=body) if body else client.get(path)
    answer = response.json() if body else {}
    missing = tuple(answer.get("degraded", ()))
    return Asked(path, began, time.monotonic(), response.status_code, answer.get("version"), missing)
