"""Redis hung, killed, full or not there at all under a server of two workers: clients rank on, and nothing is lost."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from threading import Event, Thread

import httpx
import pytest

from service.home import Home
from service.store.backend import Backend
from service.store.ports import Note
from service.store.redis_backend import open_redis
from service.store.sqlite_backend import open_sqlite
from tests.e2e.load import RANK, Asked, Load, load_on
from tests.e2e.server import Server, running
from tests.redis_server import RedisServer, redis_server
from tests.service.store_front import APPS, LIVE, PASSED
from tests.service.wire import problem, soon

pytestmark = pytest.mark.e2e

STRANGER = {**RANK, "user": {"id": "never asked for before"}}
WITHOUT_STORE = [("feature_store",), ("feature_store", "local_copy")]


@dataclass(frozen=True)
class Shop:
    """A server, the Redis that it is on, and that Redis as a process beside the server sees it."""

    server: Server
    redis: RedisServer
    store: Backend

    def degraded(self, rank: object = RANK) -> list[str]:
        """What a ranking misses now."""
        with self.server.client() as client:
            response = client.post("/rank", json=rank)
        assert response.status_code == 200, response.text
        assert len(response.json()["items"]) == 10
        missing: list[str] = response.json()["degraded"]
        return missing

    def is_whole(self) -> bool:
        """Whether both workers have their store: ten new connections in a row see no more than that."""
        return all(self.degraded() == [] for _ in range(10))


@dataclass
class Sent:
    """Events by what became of them: acknowledged, refused with a 503, or sent and never answered for."""

    acknowledged: set[str] = field(default_factory=set)
    refused: set[str] = field(default_factory=set)


def settings_of(redis: RedisServer) -> dict[str, str]:
    return {"APPSHELF_REDIS_URL": redis.url, "APPSHELF_LOG_LEVEL": "warning"}


def move(home: Path, redis: RedisServer) -> Backend:
    """Put what the embedded store of a home holds into a Redis."""
    embedded = open_sqlite(Home(home), time.time)
    store = open_redis(redis.url, clock=time.time, timeout_s=5.0)
    store.features.put_users(embedded.features.users())
    store.features.put_apps(embedded.features.apps_since(0).put)
    for entry in embedded.index.all():
        store.index.add(entry, note=Note("test", "moved"))
    return store


@pytest.fixture(scope="module")
def shop(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """One server for all tests of the module: each leaves it as it found it, which is a part of what they show."""
    folder = tmp_path_factory.mktemp("away")
    home = Path(shutil.copytree(furnished, folder / "home"))
    with redis_server(folder / "redis") as redis:
        store = move(home, redis)
        Home(home).store.unlink()
        with running(home, workers=2, settings=settings_of(redis)) as server:
            yield Shop(server, redis, store)


@contextmanager
def events_on(server: Server) -> Iterator[Sent]:
    """Events of two senders, one after the other as fast as they are answered, until the end of the block."""
    sent, stop = Sent(), Event()
    threads = [Thread(target=_send, args=(server, sent, (f"sender{number}", stop))) for number in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield sent
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _send(server: Server, sent: Sent, work: tuple[str, Event]) -> None:
    name, stop = work
    with server.client() as client:
        for number in count():
            if stop.is_set():
                return
            event = {
                "id": f"{name}-{time.monotonic_ns()}-{number}",
                "kind": "click",
                "app_id": APPS[0],
                "user_id": "u1",
            }
            response = client.post("/events", json={"events": [event]})
            if response.status_code == 200:
                assert response.json()["results"][0]["status"] == "accepted"
                sent.acknowledged.add(event["id"])
            else:
                problem(response, 503)
                assert int(response.headers["Retry-After"]) >= 1
                sent.refused.add(event["id"])


def ranked(load: Load) -> list[Asked]:
    return [one for one in load.asked if one.path == "/rank"]


def since(load: Load, moment: float, true: Callable[[Asked], bool]) -> int:
    """How many rankings that began after this moment are such."""
    return sum(true(one) for one in ranked(load) if one.began > moment)


def test_a_redis_that_hangs_fails_no_ranking_and_none_waits_for_it(shop: Shop) -> None:
    assert soon(shop.is_whole)
    with load_on(shop.server) as load, events_on(shop.server) as sent:
        assert soon(lambda: len(sent.acknowledged) > 20)
        shop.redis.pause()
        hung = time.monotonic()
        try:
            assert soon(lambda: since(load, hung, lambda one: one.degraded in WITHOUT_STORE) > 100)
            assert soon(lambda: len(sent.refused) >= 2)
            assert shop.degraded(STRANGER) == ["feature_store", "local_copy"]
            metrics = httpx.get(f"{shop.server.url}/metrics", timeout=60)
            resumed = time.monotonic()
        finally:
            shop.redis.resume()
        assert soon(shop.is_whole)
        before = len(sent.acknowledged)
        assert soon(lambda: len(sent.acknowledged) > before + 20)
    assert metrics.status_code == 200
    assert load.failures() == []
    assert [one for one in ranked(load) if one.began < hung and one.ended > resumed] == []
    assert since(load, hung, lambda one: one.degraded in WITHOUT_STORE and one.ended < resumed) > 100
    assert load.versions() == {LIVE}
    kept = {event.id for event in shop.store.log.feedback(0, time.time() + 60)}
    assert sent.acknowledged <= kept


def test_a_redis_killed_and_started_again_loses_nothing_acknowledged_and_needs_no_restart(shop: Shop) -> None:
    assert soon(shop.is_whole)
    workers = {worker.pid for worker in shop.server.workers()}
    with load_on(shop.server) as load, events_on(shop.server) as sent, shop.server.client() as client:
        assert client.put("/users", json={"users": [{"id": "put before", "features": {"age": 30}}]}).status_code == 200
        assert soon(lambda: len(sent.acknowledged) > 20)
        shop.redis.kill()
        killed = time.monotonic()
        assert soon(lambda: since(load, killed, lambda one: one.degraded in WITHOUT_STORE) > 50)
        assert soon(lambda: len(sent.refused) > 20)
        problem(client.put("/users", json={"users": [{"id": "put meanwhile"}]}), 503)
        problem(client.post("/admin/reload", json={"version": PASSED}), 503)
        before = len(sent.acknowledged)
        shop.redis.start()
        assert soon(shop.is_whole)
        assert soon(lambda: len(sent.acknowledged) > before + 20)
        again = [{"id": name, "kind": "click", "app_id": APPS[0], "user_id": "u1"} for name in sorted(sent.refused)]
        results = client.post("/events", json={"events": again}).json()["results"]
        assert client.get("/users/put before").json()["features"] == {"age": 30}
    assert load.failures() == []
    assert load.versions() == {LIVE}
    assert {one["status"] for one in results} <= {"accepted", "duplicate"}
    kept = [event.id for event in shop.store.log.feedback(0, time.time() + 60)]
    assert sent.acknowledged | sent.refused <= set(kept)
    assert len(kept) == len(set(kept))
    assert {worker.pid for worker in shop.server.workers()} == workers


def test_a_full_redis_refuses_what_it_cannot_keep_and_rankings_are_whole(shop: Shop) -> None:
    assert soon(shop.is_whole)
    with load_on(shop.server) as load, events_on(shop.server) as sent, shop.redis.client() as redis:
        assert soon(lambda: len(sent.acknowledged) > 20)
        redis.config_set("maxmemory-policy", "noeviction")
        redis.config_set("maxmemory", "1")
        full = time.monotonic()
        try:
            assert soon(lambda: len(sent.refused) > 20)
            assert soon(lambda: since(load, full, lambda one: one.degraded == ()) > 50)
            assert soon(lambda: shop.store.rollouts.leases(alive_since=time.time() - 5) == ())  # a heartbeat is a write
        finally:
            redis.config_set("maxmemory", "0")
        room = time.monotonic()
        before = len(sent.acknowledged)
        assert soon(lambda: len(sent.acknowledged) > before + 20)
        assert soon(lambda: since(load, room, lambda one: one.degraded == ()) > 50)
    assert load.failures() == []
    kept = {event.id for event in shop.store.log.feedback(0, time.time() + 60)}
    assert sent.acknowledged <= kept
    assert not sent.refused & kept


def test_after_all_of_it_a_promote_reaches_every_worker(shop: Shop) -> None:
    assert soon(shop.is_whole)
    with load_on(shop.server) as load, shop.server.client() as client:
        promoted = client.post("/admin/reload", json={"version": PASSED}).json()
        back = client.post("/admin/rollback").json()
    assert list(promoted["processes"].values()) == [PASSED] * 2
    assert list(back["processes"].values()) == [LIVE] * 2
    assert load.failures() == []
    assert load.versions() == {LIVE, PASSED}


def test_a_server_that_starts_while_its_redis_is_away_serves_what_served_last_and_catches_up(
    furnished: Path, tmp_path: Path
) -> None:
    home = Path(shutil.copytree(furnished, tmp_path / "home"))
    with redis_server(tmp_path / "redis") as redis:
        store = move(home, redis)
        Home(home).store.unlink()
        with running(home, settings=settings_of(redis)) as server:
            shop = Shop(server, redis, store)
            assert shop.degraded() == []
            assert soon(Home(home).catalogue.exists)
        store.features.delete_app(APPS[0])
        redis.kill()
        with running(home, settings=settings_of(redis)) as server, server.client() as client:
            shop = Shop(server, redis, store)
            assert client.get("/readyz").status_code == 200
            assert client.get("/version").json()["live"] == LIVE
            assert shop.degraded() == ["feature_store", "local_copy"]
            redis.start()
            assert soon(lambda: shop.degraded() == [])
            asked = {**RANK, "candidates": [APPS[0]]}
            assert soon(lambda: client.post("/rank", json=asked).json()["items"] == [])
            assert client.put("/apps", json={"apps": [{"id": APPS[0]}]}).status_code == 200
            assert soon(lambda: len(client.post("/rank", json=asked).json()["items"]) == 1)
