"""The store front, furnished once a session and copied for each test, and the Redis servers of a session."""

import gc
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from service.container import Container, build
from tests.redis_fleet import cluster_url, redis_cluster, redis_sentinel, sentinel_url
from tests.redis_server import redis_server
from tests.service.command_line import Run, run_on
from tests.service.store_front import furnish, settings
from tests.service.wire import Client, serving


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)  # so small a network only waits for further ones
    home = tmp_path_factory.mktemp("furnished") / "home"
    furnish(home)
    return home


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(furnished, tmp_path / "home"))


@pytest.fixture
def run(home: Path) -> Run:
    """The command line on the home."""
    return run_on(home)


@pytest.fixture
def container(home: Path) -> Container:
    return build(settings(home))


@pytest.fixture(scope="session")
def reader(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """A client that all tests share which change nothing."""
    home = shutil.copytree(furnished, tmp_path_factory.mktemp("shared") / "home")
    with serving(build(settings(Path(home)))) as client:
        yield client


@pytest.fixture
def client(container: Container) -> Iterator[Client]:
    with serving(container) as client:
        yield client


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Client]:
    """A client of a home in which nothing was ever trained."""
    with serving(build(settings(tmp_path / "empty"))) as client:
        yield client


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server.url


@pytest.fixture(scope="session")
def redis_cluster_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_cluster(tmp_path_factory.mktemp("redis-cluster")) as nodes:
        yield cluster_url(nodes)


@pytest.fixture(scope="session")
def redis_sentinel_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with redis_sentinel(tmp_path_factory.mktemp("redis-sentinel")) as (_, sentinel):
        yield sentinel_url(sentinel)


@pytest.fixture
def no_collection() -> Iterator[None]:
    """What is in a cycle stays."""
    gc.disable()
    yield
    gc.enable()
