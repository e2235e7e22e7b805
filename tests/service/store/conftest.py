from collections.abc import Iterator
from pathlib import Path

import pytest

from service.store.ports import FeatureStore, RegistryIndex, RolloutStore
from tests.service.clock import Clock
from tests.service.store.backends import BACKENDS, Backend


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Backend]:
    with BACKENDS[request.param](tmp_path, clock) as backend:
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
