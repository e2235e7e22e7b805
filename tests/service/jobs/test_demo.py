"""The demo that a fleet's first worker makes, on a smaller store and with a verdict instead of the gate's minutes."""

import time
from pathlib import Path
from typing import Any

import pytest

from model.data.synthetic import SyntheticConfig
from model.report import GateReport
from service.container import Container, build
from service.jobs.attending import desk_of, outcome
from service.jobs.desk import Desk
from service.jobs.queue import DEMO, LEASE
from service.rollout import Time
from service.store.job_ports import JobState
from tests.service.jobs.shop import quick
from tests.service.store_front import LIVE, TEST, verdict


def begun(container: Container) -> Desk:
    now = time.time()
    job = container.queue.submit(DEMO, {}, who="bootstrap")
    container.jobs.take_lease(LEASE, "w1", now=now, until=now + 600)
    container.jobs.begin(job.id, at=now)
    return desk_of(container, job.id, worker="w1", times=Time(time.time, time.sleep))


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    def passed(container: Container, version: str, **_: object) -> GateReport:
        report = verdict(version, passed=True)
        report = GateReport(version, "popularity", report.at, report.checks)
        container.registry.record(report, note=TEST)
        return report

    small: Any = staticmethod(SyntheticConfig.small)
    monkeypatch.setattr(SyntheticConfig, "demo", small)
    monkeypatch.setattr("service.demo.NETWORK", {"params": {"hidden": [8], "dim": 4}, "epochs": 1})
    monkeypatch.setattr("service.jobs.desk.gate_version", passed)


@pytest.mark.usefixtures("hasty")
def test_where_nothing_is_live_a_store_is_made_and_learned_and_taken_live_once(tmp_path: Path) -> None:
    container = build(quick(tmp_path / "home"))
    desk = begun(container)
    state, result = outcome(desk)
    assert (state, result["promoted"]) == (JobState.SUCCEEDED, True)
    assert container.registry.live() == result["version"]
    assert container.features.apps_since(0).put
    before = container.registry.history()
    assert outcome(desk)[1]["version"] == result["version"]
    assert container.registry.history() == before


def test_where_something_is_live_nothing_is_made(home: Path) -> None:
    container = build(quick(home))
    before = container.registry.versions()
    assert outcome(begun(container)) == (JobState.SUCCEEDED, {"version": LIVE, "promoted": False})
    assert container.registry.versions() == before


def test_a_home_with_somebodys_own_data_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    container = build(quick(home))
    monkeypatch.setattr(container.registry, "live", lambda: None)
    state, result = outcome(begun(container))
    assert state is JobState.FAILED
    assert "a demo needs another home" in result["error"]
