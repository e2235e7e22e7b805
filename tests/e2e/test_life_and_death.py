"""Servers that end, are killed, or are not alone on their home."""

import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest

from model.training import TrainConfig
from service.container import build
from service.home import Home
from service.lifecycle import train_version
from service.store.ports import Lease
from service.store.sqlite import Database
from service.store.sqlite_rollout import SqliteRolloutStore
from tests.e2e.load import RANK
from tests.e2e.server import END_S, Server, running, start
from tests.service.store_front import LIVE, settings

pytestmark = pytest.mark.e2e


def serves(server: Server) -> bool:
    with server.client() as client:
        return bool(client.post("/rank", json=RANK).json()["version"] == LIVE)


def leases(home: Path) -> tuple[Lease, ...]:
    return SqliteRolloutStore(Database(Home(home).store), time.time).leases(alive_since=0)


def test_a_server_told_to_end_ends_well_and_gives_its_leases_back(home: Path) -> None:
    with running(home, workers=2) as server:
        assert serves(server)
        assert len(leases(home)) == 2
        assert server.stop() == 0
    assert leases(home) == ()


def test_a_worker_that_is_killed_comes_back_while_the_other_serves(home: Path) -> None:
    with running(home, workers=2) as server:
        killed = server.workers()[0]
        killed.kill()
        killed.wait(END_S)
        assert serves(server)
        patience = time.monotonic() + 60
        while len(server.workers()) < 2 and time.monotonic() < patience:
            time.sleep(0.1)
        assert len(server.workers()) == 2


def test_when_the_supervisor_is_killed_its_workers_end_and_the_next_start_is_clean(home: Path) -> None:
    with running(home, workers=2) as server:
        workers = server.workers()
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(END_S)
        _, alive = psutil.wait_procs(workers, timeout=END_S)
        assert alive == []
    with running(home) as again:
        assert serves(again)


def test_a_second_server_on_the_same_home_is_refused_in_one_sentence(home: Path) -> None:
    with running(home) as server:
        second = start(home, log=subprocess.PIPE)
        output, _ = second.communicate(timeout=END_S)
        assert second.returncode == 1
        assert len(output.decode().strip().splitlines()) == 1
        assert str(server.process.pid) in output.decode()
        assert serves(server)


def test_a_trainer_beside_a_server_is_allowed_and_its_version_shows_up(home: Path) -> None:
    with running(home) as server:
        config = TrainConfig(params={"hidden": [8]}, epochs=1, batch_size=256)
        version = train_version(build(settings(home)), config, token="cccccc", progress=lambda _: None)
        with server.client() as client:
            assert client.get(f"/admin/versions/{version}").json()["state"] == "challenger"
        assert serves(server)
