"""A Redis that is full makes room by itself, as far as the log may be trimmed."""

import pytest

from service.errors import StoreUnavailable
from service.log_keeping import Kept, trim_log
from service.store.backend import Backend
from service.store.redis_backend import open_redis
from service.turns import OneAtATime, Turn
from tests.redis_server import RedisServer
from tests.service.clock import Clock
from tests.service.store.test_event_log import impression, install

TIMEOUT_S = 5.0
FULL = "1"


def fill(server: RedisServer, store: Backend) -> None:
    """Twenty impressions and twenty events of one moment, and no room for more."""
    store.log.show([impression(f"r{number}") for number in range(20)])
    store.log.take([install(f"e{number}", at=impression("r").at) for number in range(20)])
    with server.client() as client:
        client.config_set("maxmemory", FULL)
    with pytest.raises(StoreUnavailable):
        store.log.show([impression("one more")])


def test_whose_turn_it_is_to_trim_is_settled_in_a_full_redis_too(redis_alone: RedisServer) -> None:
    clock = Clock()
    store = open_redis(redis_alone.url, clock=clock, timeout_s=TIMEOUT_S)
    one, other = (OneAtATime(store.jobs, Turn("trimming"), holder=name, clock=clock) for name in ("one", "other"))
    fill(redis_alone, store)

    assert one()
    assert not other()
    assert trim_log(store.log, Kept(days=1e6, impressions=5, events=5), now=clock()) == 30
    assert (store.log.counts().impressions, store.log.counts().feedback) == (5, 5)
