"""`/users`: what is put is what is read and ranked with, and what is deleted is gone."""

import pytest

from tests.service.store_front import APPS
from tests.service.wire import Client, problem


def test_a_user_that_was_put_reads_as_it_was_put(client: Client) -> None:
    user = {
        "id": "new",
        "features": {"country": "PT", "age": 30.5, "interests": ["fun"], "later": None},
        "installed": ["com.a", "com.b"],
        "uses": {"com.b": 7},
    }
    assert client.put("/users", json={"users": [user]}).json() == {"stored": 1}
    read = client.get("/users/new").json()
    assert read == {**user, "installed": ["com.b", "com.a"], "uses": {"com.b": 7, "com.a": 1}}


def test_a_user_put_twice_is_stored_once_as_put_last(client: Client) -> None:
    users = [{"id": "new", "features": {"age": 1.0}}, {"id": "new", "installed": ["com.a"]}]
    assert client.put("/users", json={"users": users}).json() == {"stored": 1}
    assert client.get("/users/new").json() == {
        "id": "new",
        "features": {},
        "installed": ["com.a"],
        "uses": {"com.a": 1},
    }


def test_what_was_put_is_ranked_with(client: Client) -> None:
    client.put("/users", json={"users": [{"id": "new", "installed": APPS[:5]}]})
    answer = client.post("/rank", json={"user": {"id": "new"}, "k": 100}).json()
    assert {item["app_id"] for item in answer["items"]} == set(APPS[5:])
    assert answer["warnings"] == []


def test_a_deleted_user_is_unknown(client: Client) -> None:
    assert client.delete("/users/u1").status_code == 204
    problem(client.get("/users/u1"), 404)
    problem(client.delete("/users/u1"), 404)
    assert client.post("/rank", json={"user": {"id": "u1"}}).json()["warnings"] == [{"code": "unknown_user"}]


@pytest.mark.parametrize("user_id", ["a/b", "ana@example.org", "a b?", "ünï", "..", "x" * 512])
def test_an_id_may_hold_what_is_no_control_character(client: Client, user_id: str) -> None:
    from urllib.parse import quote

    client.put("/users", json={"users": [{"id": user_id}]})
    assert client.get(f"/users/{quote(user_id, safe='').replace('.', '%2E')}").json()["id"] == user_id


def test_before_the_first_version_values_are_taken_as_they_are(empty: Client) -> None:
    assert empty.put("/users", json={"users": [{"id": "u", "features": {"age": "old"}}]}).status_code == 200
