"""The store front of the service's tests, in homes that real servers serve."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.e2e.server import Server, running
from tests.service.store_front import furnish


@pytest.fixture(scope="session")
def furnished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    home = tmp_path_factory.mktemp("furnished") / "home"
    furnish(home)
    return home


@pytest.fixture
def home(furnished: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(furnished, tmp_path / "home"))


@pytest.fixture(scope="module")
def server(furnished: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Two workers on one home, shared by the tests of a module."""
    home = Path(shutil.copytree(furnished, tmp_path_factory.mktemp("served") / "home"))
    with running(home, workers=2) as server:
        yield server
