"""The backends that every contract test runs on: add one here and the whole suite judges it."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest

from service.home import Home
from service.store.backend import Backend
from service.store.redis_backend import open_redis
from service.store.sqlite_backend import open_sqlite

__all__ = ["BACKENDS", "Backend", "Place"]

Clock = Callable[[], float]
PATIENT_S = 5.0  # on a busy machine a Redis that is well may be slow


@dataclass(frozen=True)
class Place:
    """Where a backend may live: a folder of the test's own, and the servers of the session."""

    folder: Path
    request: pytest.FixtureRequest

    def url(self, server: str) -> str:
        """The URL of one of the session's servers, started with the first test that asks."""
        url: str = self.request.getfixturevalue(server)
        return url


@contextmanager
def sqlite(place: Place, clock: Clock) -> Iterator[Backend]:
    yield open_sqlite(Home(place.folder), clock)


def redis(place: Place, clock: Clock) -> AbstractContextManager[Backend]:
    return on(place.url("redis_url"), clock)


def redis_cluster(place: Place, clock: Clock) -> AbstractContextManager[Backend]:
    return on(place.url("redis_cluster_url"), clock)


def redis_sentinel(place: Place, clock: Clock) -> AbstractContextManager[Backend]:
    return on(place.url("redis_sentinel_url"), clock)


@contextmanager
def on(url: str, clock: Clock) -> Iterator[Backend]:
    """Keys of a test's own on a server that tests share."""
    yield open_redis(url, clock=clock, timeout_s=PATIENT_S, prefix=f"test-{uuid4().hex}")


BACKENDS: Mapping[str, Callable[[Place, Clock], AbstractContextManager[Backend]]] = {
    "sqlite": sqlite,
    "redis": redis,
    "redis_cluster": redis_cluster,
    "redis_sentinel": redis_sentinel,
}
