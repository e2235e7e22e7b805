"""`POST /rank` through HTTP: whom it ranks, what overrides what, and what it says beside the list."""

import sqlite3
from typing import Any

from service.container import Container
from tests.service.store_front import APPS, LIVE
from tests.service.wire import Client, problem, soon


def ranked(client: Client, **body: object) -> dict[str, Any]:
    response = client.post("/rank", json={"user": {"id": "u1"}, **body})
    assert response.status_code == 200, response.text
    answer: dict[str, Any] = response.json()
    return answer


def ids(answer: dict[str, Any]) -> list[str]:
    return [item["app_id"] for item in answer["items"]]


def scores(answer: dict[str, Any]) -> dict[str, float]:
    return {item["app_id"]: item["score"] for item in answer["items"]}


def test_the_answer_names_the_version_and_ranks_from_one_downwards(reader: Client) -> None:
    answer = ranked(reader, context={"daytime": "morning"})
    assert answer["version"] == LIVE
    assert [item["rank"] for item in answer["items"]] == list(range(1, 11))
    assert [item["score"] for item in answer["items"]] == sorted(scores(answer).values(), reverse=True)
    assert answer["degraded"] == []
    assert answer["took_ms"] > 0


def test_without_candidates_the_catalogue_less_what_is_installed_is_ranked(reader: Client) -> None:
    installed = reader.get("/users/u1").json()["installed"]
    assert set(ids(ranked(reader, k=100))) == set(APPS) - set(installed)


def test_a_candidate_that_is_installed_is_ranked_all_the_same(reader: Client) -> None:
    user = {"id": "u1", "installed": [APPS[3]]}
    assert ids(ranked(reader, user=user, candidates=[APPS[3]])) == [APPS[3]]
    assert APPS[3] not in ids(ranked(reader, user=user, k=100))


def test_what_the_request_says_of_a_user_overrides_the_store(reader: Client) -> None:
    stored = reader.get("/users/u2").json()
    told = {"id": "u1", "features": stored["features"], "installed": stored["installed"], "uses": stored["uses"]}
    by_store, by_request = (scores(ranked(reader, user=user, candidates=APPS, k=30)) for user in ({"id": "u1"}, told))
    assert by_request != by_store
    again = {"id": "u1", **{name: reader.get("/users/u1").json()[name] for name in ("features", "installed", "uses")}}
    assert scores(ranked(reader, user=again, candidates=APPS, k=30)) == by_store


def test_equal_requests_get_equal_answers(reader: Client) -> None:
    assert ranked(reader, candidates=APPS)["items"] == ranked(reader, candidates=APPS)["items"]


def test_apps_that_score_alike_stand_in_the_order_of_their_ids(client: Client) -> None:
    twins = ["com.twin2", "com.twin1", "com.twin3"]
    client.put("/apps", json={"apps": [{"id": app_id} for app_id in twins]})
    assert soon(lambda: not ranked(client, candidates=twins)["warnings"])
    assert ids(ranked(client, candidates=twins)) == sorted(twins)


def test_an_unknown_user_gets_defaults_and_a_warning(reader: Client) -> None:
    answer = ranked(reader, user={"id": "stranger"})
    assert len(answer["items"]) == 10
    assert answer["warnings"] == [{"code": "unknown_user"}]


def test_candidates_outside_the_catalogue_come_back_in_the_warnings(reader: Client) -> None:
    answer = ranked(reader, candidates=["com.unheard", APPS[0], "com.of"])
    assert ids(answer) == [APPS[0]]
    assert answer["warnings"] == [
        {"code": "unknown_app", "app_id": "com.unheard"},
        {"code": "unknown_app", "app_id": "com.of"},
    ]


def test_unknown_candidates_alone_give_an_empty_list_and_no_error(reader: Client) -> None:
    assert ranked(reader, candidates=["com.unheard"])["items"] == []


def test_excluded_apps_are_left_out_and_named_where_they_were_asked_for(reader: Client) -> None:
    answer = ranked(reader, candidates=APPS[:3], exclude=[APPS[0], "com.unheard"])
    assert set(ids(answer)) == set(APPS[1:3])
    assert answer["warnings"] == [{"code": "unavailable", "app_id": APPS[0]}]
    assert APPS[0] not in ids(ranked(reader, exclude=[APPS[0]], k=100))


def test_a_store_that_is_away_degrades_the_answer_and_fails_nothing(client: Client, container: Container) -> None:
    database = sqlite3.connect(container.home.store)
    database.executescript("DROP TABLE users")
    answer = ranked(client, user={"id": "u2"})
    assert len(answer["items"]) == 10
    assert answer["degraded"] == ["feature_store", "local_copy"]
    assert answer["warnings"] == []


def test_a_user_who_asked_before_is_ranked_as_before_while_the_store_is_away(
    client: Client, container: Container
) -> None:
    before = ranked(client)
    sqlite3.connect(container.home.store).executescript("DROP TABLE users")
    answer = ranked(client)
    assert answer["items"] == before["items"]
    assert answer["degraded"] == ["feature_store"]


def test_without_a_live_version_the_answer_is_a_503_that_names_the_next_step(empty: Client) -> None:
    response = empty.post("/rank", json={"user": {"id": "u1"}})
    assert "appshelf promote" in problem(response, 503)["detail"]
    assert response.headers["retry-after"] == "1"
