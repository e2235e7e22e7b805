"""A Redis that did not answer is left alone for a moment, and one that refuses is not."""

import pytest

from service.breaker import Breaker
from service.errors import StoreUnavailable
from service.store.redis_client import RedisLink
from tests.redis_server import RedisServer
from tests.service.clock import Clock

FIRST_S = 1.0


@pytest.fixture
def link(redis_alone: RedisServer, clock: Clock) -> RedisLink:
    return RedisLink(redis_alone.url, timeout_s=0.2, breaker=Breaker(clock, first_s=FIRST_S))


def test_of_many_who_ask_a_redis_that_hangs_the_first_waits_and_the_next_are_told_at_once(
    redis_alone: RedisServer, link: RedisLink, clock: Clock
) -> None:
    link.ask("SET", "key", "value")
    redis_alone.pause()
    with pytest.raises(StoreUnavailable, match=r"[Tt]imeout"):
        link.ask("GET", "key")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match="a moment ago"):
            link.ask("GET", "key")
    redis_alone.resume()
    clock.advance(FIRST_S)
    assert link.ask("GET", "key") == b"value"
    assert link.ask("GET", "key") == b"value"


def test_a_redis_that_was_killed_is_found_again_after_a_pause(
    redis_alone: RedisServer, link: RedisLink, clock: Clock
) -> None:
    link.ask("SET", "key", "value")
    redis_alone.kill()
    with pytest.raises(StoreUnavailable):
        link.ask("GET", "key")
    redis_alone.start()
    clock.advance(FIRST_S)
    assert link.ask("GET", "key") == b"value"


def test_a_full_redis_is_read_as_before(redis_alone: RedisServer, link: RedisLink) -> None:
    link.ask("SET", "key", "value")
    link.ask("CONFIG", "SET", "maxmemory", "1")
    for _ in range(3):
        with pytest.raises(StoreUnavailable, match=r"maxmemory|OOM"):
            link.ask("SET", "key", "another")
        assert link.ask("GET", "key") == b"value"


def test_who_stops_reading_half_way_is_no_failure_of_redis(link: RedisLink) -> None:
    for number in range(5):
        link.ask("SET", f"key{number}", "value")
    keys = link.keys("key")
    assert next(keys).startswith(b"key")
    keys.close()  # type: ignore[attr-defined]  # the iterator is a generator
    assert link.ask("GET", "key1") == b"value"
