"""Two workers, talked to over HTTP: one server to its clients, whatever happens behind it."""

import math
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.load import RANK, Asked, load_on
from tests.e2e.server import Server
from tests.service.store_front import LIVE, MISSING_ITS_GOLDEN, PASSED
from tests.service.wire import problem, soon

pytestmark = pytest.mark.e2e

JSON = {"Content-Type": "application/json"}


@dataclass
class Window:
    """The time in which a version may have been live, on the clock of the load."""

    version: str
    since: float
    until: float = math.inf

    def covers(self, one: Asked) -> bool:
        return one.version == self.version and self.since <= one.ended and one.began <= self.until


def problem_free(response: httpx.Response) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def everywhere(server: Server, true: Callable[[httpx.Client], bool]) -> bool:
    """Whether it comes true on ten fresh connections in a row, which reach both workers, given time enough."""
    patience, row = time.monotonic() + 30, 0
    while row < 10 and time.monotonic() < patience:
        with server.client() as client:
            row = row + 1 if true(client) else 0
    return row == 10


def count(server: Server, metric: str) -> float:
    with server.client() as client:
        found = re.search(rf"^{re.escape(metric)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_both_workers_answer_alike(server: Server) -> None:
    with server.client() as client:
        first = client.post("/rank", json=RANK).json()["items"]
    assert everywhere(server, lambda client: client.post("/rank", json=RANK).json()["items"] == first)


def test_metrics_are_the_sum_over_the_workers_whichever_is_asked(server: Server) -> None:
    refused = 'appshelf_request_seconds_count{outcome="refused",route="/rank"}'  # as nobody else here is
    for _ in range(30):
        with server.client() as client:
            client.post("/rank", json={})
    assert soon(lambda: count(server, refused) == 30.0)  # each worker tells the other a moment later
    assert [count(server, refused) for _ in range(5)] == [30.0] * 5
    assert len({file.name.split("-")[0] for file in metrics_of(server)}) == 2


def metrics_of(server: Server) -> list[Path]:
    return list(server.home.joinpath("metrics").glob("*.counts"))


@pytest.mark.parametrize("length_told", [True, False])
def test_a_body_of_50_mb_is_a_413_and_the_server_serves_on(server: Server, length_told: bool) -> None:
    chunk = b" " * 1_000_000
    content = chunk * 50 if length_told else (chunk for _ in range(50))
    with server.client() as client:
        problem(client.post("/rank", content=content, headers=JSON), 413)
        assert client.post("/rank", json=RANK).status_code == 200


def test_dots_in_a_path_lead_nowhere(server: Server) -> None:
    with server.client() as client:
        response = client.get("/admin/versions/..%2F..%2F..%2Fetc%2Fpasswd")
    problem(response, 404)


def test_a_new_app_is_on_the_shelf_of_every_worker(server: Server) -> None:
    asked = {**RANK, "candidates": ["com.new"]}
    with server.client() as client:
        assert client.put("/apps", json={"apps": [{"id": "com.new"}]}).status_code == 200
    assert everywhere(server, lambda client: len(client.post("/rank", json=asked).json()["items"]) == 1)


def test_reloads_under_load_fail_no_request_and_every_answer_is_by_a_version_live_meanwhile(server: Server) -> None:
    switches = [("/admin/reload", PASSED), ("/admin/rollback", LIVE)] * 3
    windows = [Window(LIVE, since=-math.inf)]
    with load_on(server) as load, server.client() as admin:
        for path, version in switches:
            windows.append(Window(version, since=time.monotonic()))
            answer = admin.post(path, json={"version": version} if path == "/admin/reload" else None)
            windows[-2].until = time.monotonic()
            assert set(problem_free(answer)["processes"].values()) == {version}
    assert load.failures() == []
    assert load.versions() == {LIVE, PASSED}
    ranked = [one for one in load.asked if one.version]
    assert [one for one in ranked if not any(window.covers(one) for window in windows)] == []


def test_a_promote_that_a_worker_refuses_is_aborted_under_load_without_a_trace(server: Server) -> None:
    with load_on(server) as load, server.client() as admin:
        refused = admin.post("/admin/reload", json={"version": MISSING_ITS_GOLDEN})
    assert "golden_scores" in problem(refused, 409)["detail"]
    assert load.failures() == []
    assert load.versions() == {LIVE}
