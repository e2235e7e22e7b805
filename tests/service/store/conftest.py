from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.ports import FeatureStore, RegistryIndex, RolloutStore
from tests.redis_server import RedisServer, redis_server
from tests.service.clock import Clock
from tests.service.store.backends import BACKENDS, Backend, Place


@pytest.fixture
def redis_alone(tmp_path: Path) -> Iterator[RedisServer]:
    """A server of the test's own, to be killed, paused or filled."""
    with redis_server(tmp_path / "redis") as server:
        yield server


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Backend]:
    with BACKENDS[request.param](Place(tmp_path, request), clock) as backend:
        yield backend


@pytest.fixture
def features(backend: Backend) -> FeatureStore:
    return backend.features


@pytest.fixture
def index(backend: Backend) -> RegistryIndex:
    return backend.index


@pytest.fixture
def rollouts(backend: Backend) -> RolloutStore:
    return backend.rollouts
