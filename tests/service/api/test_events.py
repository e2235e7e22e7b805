"""`POST /events` through HTTP: a result for each event, and what becomes of them."""

import sqlite3
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from service.container import Container, build
from tests.service.store_front import APPS, settings
from tests.service.wire import JSON, Client, pointers, problem, serving, soon

EVER = (0.0, 1e12)


def ranked(client: Client, user_id: str = "u1") -> dict[str, Any]:
    response = client.post("/rank", json={"user": {"id": user_id}})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def sent(client: Client, *events: object) -> list[dict[str, Any]]:
    response = client.post("/events", json={"events": events})
    assert response.status_code == 200, response.text
    results: list[dict[str, Any]] = response.json()["results"]
    return results


def event(event_id: str, **members: object) -> dict[str, object]:
    return {"id": event_id, "kind": "install", "app_id": APPS[0], "user_id": "u1", **members}


def rejected(client: Client, bad: object) -> dict[str, Any]:
    (result,) = sent(client, bad)
    assert result["status"] == "rejected"
    assert result["reason"]
    return result


def count(client: Client, metric: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return next((float(line.split()[-1]) for line in lines if line.startswith(f"{metric} ")), 0.0)


def test_an_event_sent_right_after_its_answer_is_accepted(client: Client) -> None:
    for number in range(20):
        answer = ranked(client)
        app_id = answer["items"][0]["app_id"]
        install = event(f"e{number}", request_id=answer["request_id"], app_id=app_id)
        assert sent(client, install) == [{"id": f"e{number}", "status": "accepted"}]


def test_an_install_is_in_the_users_history_soon_and_an_uninstall_takes_it_out(client: Client) -> None:
    client.put("/users", json={"users": [{"id": "ana", "features": {"country": "PT"}, "installed": ["com.app01"]}]})
    sent(client, event("e1", user_id="ana", app_id="com.app07"))
    assert soon(lambda: client.get("/users/ana").json()["installed"] == ["com.app01", "com.app07"])
    assert "com.app07" not in {item["app_id"] for item in ranked(client, "ana")["items"]}
    sent(client, event("e2", user_id="ana", app_id="com.app07", kind="uninstall"))
    assert soon(lambda: client.get("/users/ana").json()["installed"] == ["com.app01"])
    assert client.get("/users/ana").json()["features"] == {"country": "PT"}


def test_an_install_of_an_unknown_user_and_an_unknown_app_is_no_error(client: Client) -> None:
    assert sent(client, event("e1", user_id="stranger", app_id="com.unheard"))[0]["status"] == "accepted"
    assert soon(lambda: client.get("/users/stranger").status_code == 200)
    assert client.get("/users/stranger").json()["installed"] == ["com.unheard"]


def test_each_event_has_its_own_result_in_the_order_sent(client: Client) -> None:
    answer = ranked(client)
    shown = {"request_id": answer["request_id"], "app_id": answer["items"][0]["app_id"]}
    results = sent(
        client,
        event("e1", **shown),
        event("e2", request_id="of no answer"),
        {"id": "e3", "kind": "Install!"},
        event("e1", **shown),
        event("e1", **shown, kind="click"),
        event("e4", **shown, user_id="u2"),
        event("e5", **{**shown, "app_id": "com.not_shown"}),
        "not an event",
    )
    told = [(one["id"], one["status"]) for one in results]
    assert told == [
        ("e1", "accepted"),
        ("e2", "orphan"),
        ("e3", "rejected"),
        ("e1", "duplicate"),
        ("e1", "rejected"),
        ("e4", "rejected"),
        ("e5", "orphan"),
        (None, "rejected"),
    ]
    assert all(("reason" in one) == (one["status"] == "rejected") for one in results)


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        (event("e1", kind="Install"), "kind: a kind has lower case letters"),
        (event("e1", kind="i" * 65), "kind: a kind has lower case letters"),
        (event("e1", kind=7), "kind: Input should be a valid string"),
        ({"id": "e1", "kind": "install", "user_id": "u1"}, "app_id: Field required"),
        ({"id": "e1", "app_id": "com.a", "user_id": "u1"}, "kind: Field required"),
        (event("e1", app_id=""), "app_id: String should have at least 1 character"),
        (event("e1", user_id="a\nb"), "user_id: an id may hold no control character"),
        (event("e1", request_id=["r1"]), "request_id: Input should be a valid string"),
        (event("e1", user_id=None), "neither a request_id nor a user_id"),
        (event("e1", at="2026-11-20T19:48:46"), "at: a time is a text in ISO 8601 with its zone"),
        (event("e1", at="yesterday"), "at: a time is a text in ISO 8601 with its zone"),
        (event("e1", at=1_795_000_000), "at: a time is a text in ISO 8601 with its zone"),
        (event("e1", at="2999-01-01T00:00:00Z"), "in the future"),
        (event("e1", at="1999-01-01T00:00:00+02:00"), "days old where 90.0 are kept"),
        (event("e1", at="0001-01-01T00:00:00+14:00"), "days old where 90.0 are kept"),
        (event("e1", price=3), "price: Extra inputs are not permitted"),
    ],
)
def test_a_bad_event_is_rejected_by_its_id_with_the_reason(reader: Client, bad: dict[str, Any], told: str) -> None:
    result = rejected(reader, bad)
    assert result["id"] == "e1"
    assert told in result["reason"]


@pytest.mark.parametrize(
    ("bad", "told_id"),
    [
        ({}, None),
        (None, None),
        (7, None),
        ([], None),
        (event(""), ""),
        (event("x" * 513), "x" * 513),
        (event("a\x00b"), "a\x00b"),
        ({**event("e1"), "id": 7}, None),
        ({**event("e1"), "id": None}, None),
    ],
)
def test_what_is_no_event_or_has_no_good_id_is_rejected_all_the_same(
    reader: Client, bad: object, told_id: str | None
) -> None:
    assert rejected(reader, bad)["id"] == told_id


def test_half_of_a_surrogate_pair_is_rejected_and_fails_nothing(reader: Client) -> None:
    content = '{"events": [{"id": "\\ud800", "kind": "install", "app_id": "\\udfff", "user_id": "u1"}]}'
    response = reader.post("/events", content=content, headers=JSON)
    assert response.status_code == 200
    assert [(one["id"], one["status"]) for one in response.json()["results"]] == [(None, "rejected")]


def test_one_bad_event_costs_the_others_nothing(client: Client, container: Container) -> None:
    batch = [event(f"e{number}") for number in range(100)]
    batch[50] = {"id": "bad"}
    results = sent(client, *batch)
    assert [one["status"] for one in results].count("accepted") == 99
    assert results[50]["status"] == "rejected"
    assert container.log.counts().feedback == 99


def test_a_batch_of_ten_thousand_is_taken_and_one_more_is_a_413(client: Client, container: Container) -> None:
    batch = [event(f"e{number}") for number in range(10_000)]
    assert {one["status"] for one in sent(client, *batch)} == {"accepted"}
    assert {one["status"] for one in sent(client, *batch)} == {"duplicate"}
    assert container.log.counts().feedback == 10_000
    response = client.post("/events", json={"events": [*batch, event("one more")]})
    assert "10001 events where at most 10000 are allowed" in problem(response, 413)["detail"]


@pytest.mark.parametrize(
    ("body", "pointer"), [({}, "/events"), ({"events": []}, "/events"), ({"events": {}}, "/events"), ([], "")]
)
def test_a_malformed_envelope_is_refused(reader: Client, body: object, pointer: str) -> None:
    assert pointers(reader.post("/events", json=body)) == [pointer]


def test_an_envelope_that_is_not_json_is_a_400(reader: Client) -> None:
    problem(reader.post("/events", content='{"events": [', headers=JSON), 400)


def test_times_are_read_with_their_zone(client: Client, container: Container) -> None:
    at = datetime(2026, 11, 20, 19, 48, 46, 123456, tzinfo=UTC)
    now = datetime.now(UTC)
    moved = at.replace(year=now.year, month=now.month, day=now.day, hour=0, minute=0, second=0) - timedelta(days=2)
    elsewhere = (moved + timedelta(hours=2)).strftime("%Y-%m-%dT%H:%M:%S.%f+02:00")
    assert sent(client, event("e1", at=elsewhere))[0]["status"] == "accepted"
    (kept,) = container.log.feedback(*EVER)
    assert kept.at == moved.timestamp()


def test_what_becomes_of_events_is_counted(client: Client) -> None:
    sent(client, event("e1"), event("e2"), event("e2"), event("e3", request_id="of no answer"), {})
    told = {
        status: count(client, f'appshelf_events_total{{status="{status}"}}')
        for status in ("accepted", "duplicate", "orphan", "rejected", "late")
    }
    assert told == {"accepted": 2, "duplicate": 1, "orphan": 1, "rejected": 1, "late": 0}


def test_a_log_that_is_away_fails_no_ranking_and_refuses_events(client: Client, container: Container) -> None:
    database = sqlite3.connect(container.home.log)
    database.executescript("ALTER TABLE impressions RENAME TO away; ALTER TABLE feedback RENAME TO also_away")
    answer = ranked(client)
    assert len(answer["items"]) == 10
    response = client.post("/events", json={"events": [event("e1", request_id=answer["request_id"])]})
    assert problem(response, 503)["type"] == "urn:appshelf:problem:store-unavailable"
    assert response.headers["retry-after"] == "1"
    database.executescript("ALTER TABLE away RENAME TO impressions; ALTER TABLE also_away RENAME TO feedback")
    (result,) = sent(client, event("e1", request_id=answer["request_id"], app_id=answer["items"][0]["app_id"]))
    assert result["status"] == "accepted"  # its impression was held back, not lost


def test_a_full_buffer_drops_impressions_and_fails_no_ranking(container: Container) -> None:
    small = build(settings(container.home.root).model_copy(update={"impression_buffer": 3}))
    with serving(small) as client:
        sqlite3.connect(container.home.log).executescript("ALTER TABLE impressions RENAME TO away")
        assert all(len(ranked(client)["items"]) == 10 for _ in range(8))
        assert count(client, 'appshelf_impressions_dropped_total{reason="buffer_full"}') == 5
        sqlite3.connect(container.home.log).executescript("ALTER TABLE away RENAME TO impressions")
        assert soon(lambda: count(client, "appshelf_impressions_total") == 3)


def test_deleting_a_user_purges_the_log_of_them_and_of_nobody_else(client: Client, container: Container) -> None:
    answers = {user_id: ranked(client, user_id) for user_id in ("u1", "u2")}
    for user_id, answer in answers.items():
        told = {"request_id": answer["request_id"], "app_id": answer["items"][0]["app_id"]}
        sent(client, event(f"of {user_id}", **told, user_id=None), event(f"by {user_id}", user_id=user_id))
    ranked(client, "u1")  # perhaps not written yet
    assert client.delete("/users/u1").status_code == 204
    ranked(client, "u2")
    assert soon(lambda: container.log.counts().impressions == 2)
    assert {one.user_id for one in container.log.impressions(*EVER)} == {"u2"}
    assert {one.id for one in container.log.feedback(*EVER)} == {"of u2", "by u2"}


def test_a_user_known_to_the_log_alone_can_be_deleted_once(client: Client) -> None:
    ranked(client, "stranger")
    answer = ranked(client, "stranger")
    sent(client, event("e1", kind="click", user_id="stranger", request_id=answer["request_id"]))
    assert client.delete("/users/stranger").status_code == 204
    assert "neither stored nor in the log" in problem(client.delete("/users/stranger"), 404)["detail"]
