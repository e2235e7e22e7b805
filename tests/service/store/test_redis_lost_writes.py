"""A Redis that another takes the place of, which lacks what was written last: a replica, or a copy of before."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.breaker import Breaker
from service.errors import StoreUnavailable
from service.store.backend import Backend
from service.store.ports import AppChanges, AppRecord
from service.store.redis_apps import NUMBERS_KEPT
from service.store.redis_backend import open_redis
from service.store.redis_client import RedisLink
from tests.redis_server import RedisServer, redis_server
from tests.service.clock import Clock

TIMEOUT_S = 5.0


@pytest.fixture
def store(redis_alone: RedisServer) -> Backend:
    return open_redis(redis_alone.url, clock=Clock(), timeout_s=TIMEOUT_S)


@contextmanager
def losing(server: RedisServer) -> Iterator[None]:
    """Afterwards the server is as it was before the block."""
    with server.client() as client:
        client.connection_pool.connection_kwargs["decode_responses"] = False
        kept = {key: client.dump(key) for key in client.scan_iter()}
        yield
        client.flushall()
        for key, value in kept.items():
            client.restore(key, 0, value)


def lost(changes: AppChanges, *, asked_with: int) -> bool:
    """Whether whoever asked is told that the store has lost changes, see AppChanges."""
    return changes.sequence < asked_with


def test_who_saw_a_change_that_was_lost_is_told_so_also_after_the_next_one(
    store: Backend, redis_alone: RedisServer
) -> None:
    store.features.put_apps([AppRecord("com.a")])
    with losing(redis_alone):
        seen = store.features.put_apps([AppRecord("com.a", {"price": 1})])

    for number in range(3):  # the shelf that has seen it looks once there is a later change
        store.features.put_apps([AppRecord(f"com.{number}")])

    assert lost(store.features.apps_since(seen), asked_with=seen)
    assert {app.id for app in store.features.apps_since(0).put} == {"com.a", "com.0", "com.1", "com.2"}


def test_who_saw_a_deletion_that_was_lost_is_told_so(store: Backend, redis_alone: RedisServer) -> None:
    store.features.put_apps([AppRecord("com.a"), AppRecord("com.b")])
    with losing(redis_alone):
        store.features.delete_app("com.a")
        seen = store.features.apps_since(0).sequence

    store.features.delete_app("com.b")

    assert lost(store.features.apps_since(seen), asked_with=seen)


def test_what_was_not_lost_is_gone_on_from(store: Backend, redis_alone: RedisServer) -> None:
    seen = [store.features.put_apps([AppRecord("com.a", {"price": price})]) for price in range(3)]
    with losing(redis_alone):
        store.features.put_apps([AppRecord("com.lost")])
    last = store.features.put_apps([AppRecord("com.b")])

    for number in seen:
        changes = store.features.apps_since(number)
        assert changes.sequence == last
        assert [app.id for app in changes.put][-1] == "com.b"


def test_a_number_of_before_those_that_are_kept_is_gone_on_from(store: Backend, redis_alone: RedisServer) -> None:
    first = store.features.put_apps([AppRecord("com.a")])
    with redis_alone.client() as client:  # as after so many changes more
        client.zadd("appshelf:{apps}:numbers", {str(first + n): first + n for n in range(1, NUMBERS_KEPT + 1)})
        client.set("appshelf:{apps}:sequence", first + NUMBERS_KEPT)
        last = store.features.put_apps([AppRecord("com.a", {"price": 1})])

        assert client.zcard("appshelf:{apps}:numbers") == NUMBERS_KEPT
    assert store.features.apps_since(first).sequence == last


def test_a_catalogue_of_before_there_were_such_numbers_is_gone_on_from(
    store: Backend, redis_alone: RedisServer
) -> None:
    store.features.put_apps([AppRecord("com.a")])
    with redis_alone.client() as client:
        client.set("appshelf:{apps}:sequence", 7)
        client.zadd("appshelf:{apps}:changed", {"com.a": 7})
        client.delete("appshelf:{apps}:numbers")

    assert store.features.apps_since(7).sequence == 7
    last = store.features.put_apps([AppRecord("com.b")])

    changes = store.features.apps_since(7)
    assert (changes.sequence, [app.id for app in changes.put]) == (last, ["com.b"])


def test_after_a_write_that_only_a_master_takes_another_connection_is_made(tmp_path: Path) -> None:
    with redis_server(tmp_path / "new") as master, redis_server(tmp_path / "old") as demoted:
        link = RedisLink(demoted.url, timeout_s=TIMEOUT_S, breaker=Breaker(Clock()))
        link.ask("SET", "key", "value")
        before = link.ask("CLIENT", "ID")
        with demoted.client() as client:
            client.replicaof("127.0.0.1", master.port)

        with pytest.raises(StoreUnavailable, match="read only replica"):
            link.ask("SET", "key", "another")

        assert link.ask("CLIENT", "ID") != before  # the name may by now be the new master's
