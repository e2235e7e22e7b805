"""The admin calls: what is there, what is judged, what goes live, and what a refusal leaves as it was."""

from typing import TYPE_CHECKING

import pytest

from service.container import Container
from tests.service.store_front import APPS, LIVE, MISSING_ITS_GOLDEN, PASSED, REJECTED
from tests.service.wire import ADMIN, Client, problem

if TYPE_CHECKING:
    from httpx import Response

RANK = {"user": {"id": "u1"}, "candidates": APPS}


def live_of(client: Client) -> str:
    version: str = client.post("/rank", json=RANK).json()["version"]
    return version


def states(client: Client) -> dict[str, str]:
    versions = client.get("/admin/versions", headers=ADMIN).json()["versions"]
    return {one["version"]: one["state"] for one in versions}


def reload(client: Client, **body: object) -> "Response":
    response: Response = client.post("/admin/reload", json=body, headers=ADMIN)
    return response


def test_versions_are_listed_oldest_first_with_state_and_metrics(reader: Client) -> None:
    versions = reader.get("/admin/versions", headers=ADMIN).json()["versions"]
    assert [one["version"] for one in versions] == sorted(one["version"] for one in versions)
    assert versions[0]["state"] == "live"
    assert {"auc", "log_loss"} <= versions[0]["metrics"].keys()


def test_one_version_comes_with_its_report(reader: Client) -> None:
    version = reader.get(f"/admin/versions/{REJECTED}", headers=ADMIN).json()
    assert version["precision"] == "exact"
    assert version["state"] == "rejected"
    assert version["report"]["passed"] is False
    assert version["report"]["checks"][0]["name"] == "auc"


def test_a_version_ranks_without_serving(reader: Client) -> None:
    answer = reader.post(f"/admin/versions/{PASSED}/rank", json=RANK, headers=ADMIN).json()
    assert answer["version"] == PASSED
    assert len(answer["items"]) == 10
    assert live_of(reader) == LIVE


def test_a_version_whose_bundle_is_damaged_is_a_409_that_names_the_file(client: Client, container: Container) -> None:
    with open(container.registry.folder(PASSED) / "weights.safetensors", "r+b") as weights:
        weights.truncate(10)
    response = client.post(f"/admin/versions/{PASSED}/rank", json=RANK, headers=ADMIN)
    assert "weights.safetensors" in problem(response, 409)["detail"]


def test_judging_a_version_answers_with_the_report(client: Client) -> None:
    report = client.post(f"/admin/versions/{PASSED}/gate", headers=ADMIN).json()
    assert report["version"] == PASSED
    assert report["against"] == LIVE
    assert {"integrity", "golden_scores", "auc"} <= {check["name"] for check in report["checks"]}
    assert states(client)[PASSED] == ("passed" if report["passed"] else "rejected")


def test_a_version_that_cannot_reproduce_its_golden_scores_is_rejected_and_named_for_it(client: Client) -> None:
    report = client.post(f"/admin/versions/{MISSING_ITS_GOLDEN}/gate", headers=ADMIN).json()
    assert not report["passed"]
    assert "golden_scores" in {check["name"] for check in report["checks"] if check["outcome"] == "failed"}


def test_judging_the_live_version_is_a_409(client: Client) -> None:
    problem(client.post(f"/admin/versions/{LIVE}/gate", headers=ADMIN), 409)


def test_a_reload_swaps_the_version_on_every_process(client: Client) -> None:
    answer = reload(client, version=PASSED, reason="a better one").json()
    assert answer["version"] == PASSED
    assert answer["complete"]
    assert list(answer["processes"].values()) == [PASSED]
    assert live_of(client) == PASSED
    assert states(client)[LIVE] == "retired"


@pytest.mark.parametrize("body", [None, b"{}"])
def test_a_reload_without_a_version_takes_the_newest_that_passed(
    client: Client, container: Container, body: bytes | None
) -> None:
    newest = container.registry.newest_passed()
    assert newest == MISSING_ITS_GOLDEN
    response = client.post("/admin/reload", content=body, headers={**ADMIN, "Content-Type": "application/json"})
    assert MISSING_ITS_GOLDEN in problem(response, 409)["detail"]


def test_a_version_that_no_process_can_prepare_is_not_promoted_and_the_old_one_serves_on(client: Client) -> None:
    found = problem(reload(client, version=MISSING_ITS_GOLDEN), 409)
    assert found["type"].endswith("rollout-failed")
    assert "golden_scores" in found["detail"]
    assert live_of(client) == LIVE
    assert states(client)[LIVE] == "live"


def test_a_version_that_the_gate_refused_is_a_409_with_the_report(client: Client) -> None:
    found = problem(reload(client, version=REJECTED), 409)
    assert found["report"]["checks"][0] == {
        "name": "auc",
        "outcome": "failed",
        "observed": -0.02,
        "limit": -0.005,
        "detail": "made for the tests",
    }
    assert live_of(client) == LIVE


def test_force_needs_a_reason(client: Client) -> None:
    problem(reload(client, version=REJECTED, force=True), 422)
    problem(reload(client, version=REJECTED, force=True, reason="  "), 422)
    assert live_of(client) == LIVE


def test_a_forced_reload_with_a_reason_stands_in_the_history(client: Client, container: Container) -> None:
    assert reload(client, version=REJECTED, force=True, reason="the holdout is stale").json()["complete"]
    assert live_of(client) == REJECTED
    entry = next(one for one in container.registry.history() if one.version == REJECTED and one.to == "live")
    assert entry.forced
    assert entry.why == "the holdout is stale"
    assert "HTTP" in entry.who


def test_a_rollback_takes_the_version_before(client: Client) -> None:
    reload(client, version=PASSED)
    assert client.post("/admin/rollback", json={"reason": "worse"}, headers=ADMIN).json()["version"] == LIVE
    assert live_of(client) == LIVE


def test_a_rollback_with_nothing_before_is_a_409(client: Client) -> None:
    problem(client.post("/admin/rollback", headers=ADMIN), 409)


def test_judging_without_data_says_to_import_some(client: Client, container: Container) -> None:
    for file in container.home.data.iterdir():
        file.unlink()
    container.home.data.rmdir()
    found = problem(client.post(f"/admin/versions/{PASSED}/gate", headers=ADMIN), 409)
    assert "appshelf import" in found["detail"]
