"""Redis URLs: what each kind reaches, what is refused, and that no password is ever repeated."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from service.errors import SettingsRefused, StoreUnavailable
from service.store.backend import Backend
from service.store.ports import UserRecord
from service.store.redis_backend import open_redis
from service.store.redis_url import public_name
from tests.redis_fleet import MASTER, sentinel_url, watching
from tests.redis_server import RedisServer, redis_server
from tests.service.clock import Clock
from tests.service.wire import soon

SECRET = "s3cret"
USER = UserRecord("u1", {"country": "PT"})


def opened(url: str) -> Backend:
    return open_redis(url, clock=Clock(), timeout_s=5.0)


def keeps(url: str) -> bool:
    """Whether what is put at this URL is there when it is opened again."""
    opened(url).features.put_users([USER])
    return opened(url).features.get_user("u1") == USER


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (f"redis://:{SECRET}@db:6379/2", "redis://db:6379/2"),
        (f"rediss://user:{SECRET}@db:6380", "rediss://db:6380"),
        (f"unix:///run/redis.sock?db=1&password={SECRET}", "unix:///run/redis.sock"),
        (
            f"redis+sentinel://user:{SECRET}@h1:26379,h2/main/1?sentinel_password={SECRET}",
            "redis+sentinel://h1:26379,h2/main/1",
        ),
        (f"redis+cluster://user:{SECRET}@h1:7000,[::1]:7001", "redis+cluster://h1:7000,[::1]:7001"),
    ],
)
def test_a_store_is_known_by_its_url_without_the_password(url: str, name: str) -> None:
    opened(url)

    assert public_name(url) == name


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "none of the schemes"),
        ("localhost:6379", "none of the schemes"),
        (f"http://:{SECRET}@db", "none of the schemes"),
        (f"redis://:{SECRET}@db:port/0", "cannot be read"),
        (f"redis://:{SECRET}@db/zero", "not a number"),
        (f"redis://:12/{SECRET}@db/0", "not a number"),
        (f"redis://:{SECRET}/34@db/0", "a / or @ in a password as %2F or %40"),
        (f"redis://:{SECRET}@db/0?sockettimeout=3", "cannot be read"),
        (f"redis://:{SECRET}@db/0?socket_timeout=soon", "cannot be read"),
        (f"unix:///run/redis.sock?passwort={SECRET}", "cannot be read"),
        (f"redis+sentinel://:{SECRET}@h1:26379", "names no master"),
        (f"redis+sentinel://:{SECRET}@h1,/main", "host is missing"),
        (f"redis+sentinel://:{SECRET}@h1/main/first", "not a number"),
        (f"redis+sentinel://:{SECRET}@h1/main?nonsense=1", "cannot be read"),
        (f"redis+cluster://:{SECRET}@h1:7000/1", "a cluster has none"),
        (f"redis+cluster://:{SECRET}@h1:seven", "cannot be read"),
        ("redis+cluster://", "host is missing"),
    ],
)
def test_any_other_url_is_refused_with_the_reason_and_without_the_password(url: str, reason: str) -> None:
    with pytest.raises(SettingsRefused, match=reason) as refused:
        opened(url)

    assert SECRET not in str(refused.value)
    assert "redis+sentinel://host1:26379" in str(refused.value)


@pytest.fixture
def locked(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that wants a password, and listens at a socket too."""
    options = {"requirepass": f"/{SECRET}@", "unixsocket": str(tmp_path / "redis.sock")}
    with redis_server(tmp_path / "redis", options=options) as server:
        yield server


def test_a_password_opens_a_server(locked: RedisServer) -> None:
    assert keeps(f"redis://:%2F{SECRET}%40@127.0.0.1:{locked.port}/0")


def test_a_server_is_reached_at_its_socket(locked: RedisServer, tmp_path: Path) -> None:
    assert keeps(f"unix://{tmp_path}/redis.sock?password=%2F{SECRET}%40")


@pytest.mark.parametrize("credentials", ["", ":wr0ng@", "user:wr0ng@"])
def test_a_server_that_does_not_know_us_is_not_available(locked: RedisServer, credentials: str) -> None:
    store = opened(f"redis://{credentials}127.0.0.1:{locked.port}/0")

    with pytest.raises(StoreUnavailable) as refused:
        store.features.get_user("u1")

    assert "wr0ng" not in str(refused.value)


def test_numbered_databases_are_apart(locked: RedisServer) -> None:
    place = f"redis://:%2F{SECRET}%40@127.0.0.1:{locked.port}"

    assert keeps(f"{place}/1")
    assert opened(f"{place}/2").features.get_user("u1") is None


def test_a_master_that_no_sentinel_knows_is_not_available(redis_sentinel_url: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"No master found for 'other'\)"):
        opened(redis_sentinel_url.replace(MASTER, "other")).features.get_user("u1")


def test_a_server_that_is_no_cluster_is_told_of(redis_alone: RedisServer) -> None:
    with pytest.raises(StoreUnavailable, match="Cluster mode is not enabled"):
        opened(f"redis+cluster://127.0.0.1:{redis_alone.port}").features.get_user("u1")


def test_after_a_failover_the_new_master_is_found(tmp_path: Path) -> None:
    with (
        redis_server(tmp_path / "one") as first,
        redis_server(tmp_path / "two", options={"replicaof": f"127.0.0.1 {first.port}"}) as second,
        watching(tmp_path / "sentinel", first) as sentinel,
    ):
        store = opened(sentinel_url(sentinel))
        store.features.put_users([USER])
        assert soon(lambda: known_at(second, "appshelf:user:u1"))
        with sentinel.client() as client:
            assert soon(lambda: client.sentinel_masters()[MASTER]["num-slaves"] == 1)
            first.kill()
            client.execute_command("SENTINEL", "FAILOVER", MASTER)

            assert soon(lambda: client.sentinel_masters()[MASTER]["port"] == second.port)
        assert soon(lambda: moved(store))
        assert known_at(second, "appshelf:user:u2")


def known_at(server: RedisServer, key: str) -> bool:
    with server.client() as client:
        return bool(client.exists(key))


def moved(store: Backend) -> bool:
    """Whether a write is taken, and what was written before is read."""
    try:
        store.features.put_users([UserRecord("u2")])
        return store.features.get_user("u1") == USER
    except StoreUnavailable:
        return False
