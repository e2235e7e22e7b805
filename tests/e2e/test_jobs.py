"""Retrains in real processes that are killed at every step, and a server that does its jobs."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import httpx
import psutil
import pytest

from model.training import TrainConfig
from service.container import Container, build
from service.importing import keep
from service.jobs.asking import ask_retrain
from service.jobs.queue import token_of
from service.lifecycle import train_version
from service.store.job_ports import JobState
from service.store.sqlite import Database
from service.store.sqlite_rollout import SqliteRolloutStore
from tests.e2e.load import RANK, load_on
from tests.e2e.server import END_S, ROOT, Server, running
from tests.redis_server import redis_server
from tests.service.jobs.shop import Use, quick, use
from tests.service.store_front import LIVE, TEST, dataset, verdict

pytestmark = pytest.mark.e2e

PATIENCE_S = 180.0
STEPS = ("window", "train", "gate", "promote")
SILENT = "a process that never answers"


def await_(true: Callable[[], bool], *, every_s: float = 0.05) -> bool:
    """Whether it comes true; a retrain on a busy machine may take long."""
    patience = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < patience:
        time.sleep(every_s)
    return true()


def worker(home: Path, **settings: str) -> "subprocess.Popen[bytes]":
    """`appshelf worker` with a short lease."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith("APPSHELF_")}
    environ |= {"APPSHELF_HOME": str(home), "APPSHELF_JOB_LEASE_S": "1", "APPSHELF_RETRAIN_ATTEMPTS": "9"}
    environ |= {"APPSHELF_ROLLOUT_DEADLINE_S": "4", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    environ |= settings
    command = [sys.executable, "-m", "service", "worker"]
    return subprocess.Popen(command, env=environ, stdout=subprocess.DEVNULL)


def step_of(container: Container, job_id: str) -> str | None:
    found: str | None = container.queue.get(job_id).progress.get("step")
    return found


def killed_at(step: str, container: Container, job_id: str) -> None:
    """Have a worker begin the job and kill it as soon as that is at the step; everything it started ends too."""
    attempt = container.queue.get(job_id).attempt
    with worker(container.home.root) as process:

        def is_there() -> bool:
            job = container.queue.get(job_id)
            return job.attempt > attempt and job.progress.get("step") == step

        assert await_(is_there, every_s=0.002), container.queue.get(job_id)
        family = psutil.Process(process.pid).children(recursive=True)
        process.kill()
    _, alive = psutil.wait_procs(family, timeout=END_S)
    assert family
    assert alive == []


def made_by(container: Container, job_id: str) -> list[str]:
    token = token_of(job_id)
    return [entry.version for entry in container.registry.versions() if entry.version.endswith(token)]


def test_a_worker_that_is_killed_at_each_step_is_followed_by_one_that_finishes_and_live_moves_once(
    home: Path,
) -> None:
    container = build(quick(home))
    use(container, Use())
    job_id = ask_retrain(container, {}, who="ana").id
    later = SqliteRolloutStore(Database(container.home.store), lambda: time.time() + 3600)
    later.heartbeat(SILENT, LIVE)  # so that the promotion waits, and can be killed while it does
    for step in STEPS:
        killed_at(step, container, job_id)
        assert container.registry.live() == LIVE
        assert container.queue.get(job_id).state is JobState.RUNNING
        assert len(made_by(container, job_id)) == (step in ("gate", "promote")), step
    later.leave(SILENT)

    with worker(home) as process:
        assert await_(lambda: container.queue.get(job_id).state.ended)
        assert await_(lambda: not list(container.home.jobs.iterdir()))  # what it worked on goes after its end is told
        process.terminate()
        assert process.wait(END_S) == 0

    job = container.queue.get(job_id)
    assert job.state is JobState.SUCCEEDED, (job.result, job.lines)
    assert job.result is not None
    (version,) = made_by(container, job_id)
    assert (job.result["version"], job.result["promoted"]) == (version, True)
    assert container.registry.live() == version
    assert job.attempt == len(STEPS) + 1
    assert [move.version for move in container.registry.history() if move.to == "live"] == [LIVE, version]


def asked(client: httpx.Client) -> str:
    response = client.post("/admin/retrain")
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def job_workers(server: Server) -> list[psutil.Process]:
    """The server's job worker and whatever that has started."""
    children = psutil.Process(server.process.pid).children()
    workers = [child for child in children if "worker" in child.cmdline()]
    return workers + [deeper for child in workers for deeper in child.children(recursive=True)]


def test_a_server_does_its_retrains_cancels_one_and_goes_on_with_one_after_it_was_killed(home: Path) -> None:
    container = build(quick(home))
    use(container, Use())
    with running(home) as server, server.client() as client:
        cancelled = asked(client)
        assert await_(lambda: step_of(container, cancelled) == "train", every_s=0.005)
        client.post(f"/admin/jobs/{cancelled}/cancel")
        assert await_(lambda: container.queue.get(cancelled).state is JobState.CANCELLED)
        assert client.post("/rank", json=RANK).json()["version"] == LIVE

        job_id = asked(client)
        assert await_(lambda: step_of(container, job_id) == "gate", every_s=0.005)
        family = job_workers(server)
        assert len(family) >= 2
        server.process.send_signal(signal.SIGKILL)
        server.process.wait(END_S)
        _, alive = psutil.wait_procs(family, timeout=END_S)
        assert alive == []
    assert container.registry.live() == LIVE

    with running(home) as server, load_on(server) as load:
        assert await_(lambda: container.queue.get(job_id).state.ended)
        job = container.queue.get(job_id)
        assert job.state is JobState.SUCCEEDED, (job.result, job.lines)
        (version,) = made_by(container, job_id)
        assert container.registry.live() == version
        assert await_(lambda: version in load.versions())
    assert load.failures() == []
    assert server.stop() == 0


def test_a_redis_that_is_killed_and_started_again_mid_job_costs_no_job(tmp_path: Path) -> None:
    with redis_server(tmp_path / "redis") as server:
        container = build(quick(tmp_path / "home", redis_url=server.url, redis_timeout_s=10.0, shed_after_s=10.0))
        keep(dataset(), container.home, container.features)
        config = TrainConfig(params={"hidden": [8]}, epochs=2, batch_size=256)
        first = train_version(container, config, token="aaaaaa", progress=lambda _: None)
        container.registry.record(replace(verdict(LIVE, passed=True), version=first), note=TEST)
        container.registry.go_live(first, note=TEST)
        use(container, Use())
        job_id = ask_retrain(container, {}, who="ana").id
        with worker(container.home.root, APPSHELF_REDIS_URL=server.url) as process:
            assert await_(lambda: step_of(container, job_id) == "train", every_s=0.005)
            server.kill()
            time.sleep(2.0)  # longer than the worker's lease
            server.start()
            assert await_(lambda: container.queue.get(job_id).state.ended)
            process.terminate()
            assert process.wait(END_S) == 0
        job = container.queue.get(job_id)
        assert job.state is JobState.SUCCEEDED, (job.result, job.lines)
        (version,) = made_by(container, job_id)
        assert container.registry.live() == version
