"""App tables of a real server: the same files for all its workers, given up when another version serves."""

from pathlib import Path

import psutil
import pytest

from service.container import build
from service.edition import SMALL
from service.store.ports import AppRecord
from tests.e2e.server import Server, running
from tests.service.store_front import LIVE, PASSED, settings
from tests.service.wire import soon

pytestmark = pytest.mark.e2e


@pytest.fixture
def large(home: Path) -> Path:
    """The store front with so many apps that each worker would not encode them by itself."""
    apps = (AppRecord(f"com.more{number}", {"rating": number % 5}) for number in range(SMALL))
    build(settings(home)).features.put_apps(apps)
    return home


def mapped(worker: psutil.Process, home: Path) -> set[Path]:
    """The folders of tables that a process has files of mapped."""
    files = [Path(one.path) for one in worker.memory_maps()]
    return {file.parent for file in files if home / "tables" in file.parents}


def all_map(server: Server, *tables: Path) -> bool:
    return [mapped(one, server.home) for one in server.workers()] == [{*tables}] * 2


def test_workers_map_one_table_and_give_it_up_for_the_next_versions(large: Path) -> None:
    with running(large, workers=2) as server, server.client() as admin:
        (first,) = (large / "tables").glob(f"{LIVE}-*")
        assert soon(lambda: all_map(server, first))
        assert admin.post("/admin/reload", json={"version": PASSED}).status_code == 200
        (second,) = (large / "tables").glob(f"{PASSED}-*")
        assert soon(lambda: all_map(server, second))
        assert first.exists()  # it may be gone back to
