"""`/apps`: what is put is what is read, and within a moment what is ranked."""

from typing import Any

from tests.service.store_front import APPS
from tests.service.wire import Client, problem, soon


def shown(client: Client) -> set[str]:
    answer = client.post("/rank", json={"user": {"id": "u1", "installed": []}, "k": 100}).json()
    return {item["app_id"] for item in answer["items"]}


def test_an_app_that_was_put_reads_as_it_was_put(client: Client) -> None:
    app = {"id": "com.new", "features": {"rating": 4.0, "tags": []}, "available": False, "countries": ["PT"]}
    assert client.put("/apps", json={"apps": [app]}).json() == {"stored": 1}
    assert client.get("/apps/com.new").json() == app


def test_a_new_app_is_ranked_without_a_reload(client: Client) -> None:
    client.put("/apps", json={"apps": [{"id": "com.new", "features": {"category": "games"}}]})
    assert soon(lambda: shown(client) == {*APPS, "com.new"})


def test_a_deleted_app_is_ranked_no_more(client: Client) -> None:
    assert client.delete(f"/apps/{APPS[0]}").status_code == 204
    problem(client.get(f"/apps/{APPS[0]}"), 404)
    problem(client.delete(f"/apps/{APPS[0]}"), 404)
    assert soon(lambda: shown(client) == set(APPS[1:]))


def test_an_app_that_is_not_available_is_kept_out_and_named_where_it_was_asked_for(client: Client) -> None:
    client.put("/apps", json={"apps": [{"id": APPS[0], "available": False}]})
    assert soon(lambda: shown(client) == set(APPS[1:]))
    answer: dict[str, Any] = client.post("/rank", json={"user": {"id": "u1"}, "candidates": APPS[:1]}).json()
    assert answer["items"] == []
    assert answer["warnings"] == [{"code": "unavailable", "app_id": APPS[0]}]
