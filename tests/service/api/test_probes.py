"""The probes: what is alive, what is ready, what runs."""

import pytest

from service.container import Container, build
from service.readiness import SERVES
from tests.service.store_front import LIVE, TEST
from tests.service.wire import ADMIN, Client, problem, serving


@pytest.mark.parametrize("path", ["/livez", "/healthz"])
def test_a_process_that_has_nothing_to_serve_is_alive(empty: Client, path: str) -> None:
    assert empty.get(path).json() == {"status": "alive"}


def test_a_process_without_a_version_is_not_ready_and_says_what_to_do(empty: Client) -> None:
    assert "appshelf promote" in problem(empty.get("/readyz"), 503)["detail"]


def test_a_process_with_a_warm_version_is_ready(reader: Client) -> None:
    assert reader.get("/readyz").json() == {"status": "ready"}


def test_its_server_is_told_whether_a_version_serves(empty: Client, reader: Client) -> None:
    assert [client.app_state[SERVES]() for client in (empty, reader)] == [False, True]


def test_a_process_that_is_told_to_end_is_alive_and_no_longer_ready(client: Client, container: Container) -> None:
    container.readiness.drain()
    problem(client.get("/readyz"), 503)
    assert client.get("/livez").status_code == 200
    assert client.post("/rank", json={"user": {"id": "u1"}}).status_code == 200


def test_a_store_that_is_away_changes_nothing_about_being_ready(client: Client, container: Container) -> None:
    container.home.store.write_bytes(b"this is no database")
    assert client.get("/readyz").status_code == 200


def test_a_live_bundle_that_is_damaged_leaves_the_process_alive_and_not_ready(container: Container) -> None:
    (container.registry.folder(LIVE) / "weights.safetensors").unlink()
    with serving(container) as client:
        assert client.get("/livez").status_code == 200
        problem(client.get("/readyz"), 503)


def test_the_version_is_the_softwares_and_the_live_one(reader: Client, empty: Client) -> None:
    assert reader.get("/version").json()["live"] == LIVE
    assert empty.get("/version").json()["live"] is None


def test_the_version_is_shown_with_the_precision_that_this_process_answers_in(
    reader: Client, empty: Client, container: Container
) -> None:
    assert empty.get("/version").json()["precision"] is None
    assert reader.get("/version").json()["precision"] == "exact"  # whose report says nothing of fast
    fast = build(container.settings.model_copy(update={"precision": "fast"}))
    with serving(fast) as client:
        assert client.get("/version").json()["precision"] == "fast"
        assert {one["precision"] for one in client.get("/admin/versions", headers=ADMIN).json()["versions"]} == {"fast"}


def test_a_process_that_ends_gives_its_lease_back(container: Container) -> None:
    with serving(container) as client:
        assert client.get("/readyz").status_code == 200
        assert container.coordinator.promote(LIVE, note=TEST).processes
    assert not container.coordinator.promote(LIVE, note=TEST).processes


def test_the_description_of_the_calls_names_problems_and_no_other_errors(reader: Client) -> None:
    described = reader.get("/openapi.json").json()
    answers = described["paths"]["/rank"]["post"]["responses"]
    assert set(answers) == {"200", "default"}
    problem = {"schema": {"$ref": "#/components/schemas/ProblemMessage"}}
    calls = [call for calls in described["paths"].values() for call in calls.values()]
    assert all(call["responses"]["default"]["content"] == {"application/problem+json": problem} for call in calls)
    assert "ProblemMessage" in described["components"]["schemas"]


def test_the_metrics_are_described_as_the_text_that_they_are(reader: Client) -> None:
    (described,) = reader.get("/openapi.json").json()["paths"]["/metrics"]["get"]["responses"]["200"]["content"]
    assert reader.get("/metrics").headers["content-type"].startswith(described)
