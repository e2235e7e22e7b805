"""What bad input gets: a problem that says where and why, and never a 5xx."""

from threading import current_thread
from typing import Any

import pytest

from service.admission import Refusal, Refused
from service.api import records
from service.api.problems import refusals_of
from tests.service.store_front import APPS
from tests.service.wire import ADMIN, JSON, Client, pointers, problem

U1 = {"id": "u1"}


def test_malformed_json_is_a_400_that_says_where(reader: Client) -> None:
    found = problem(reader.post("/rank", content='{"user": ', headers=JSON), 400)
    assert "character 9" in found["detail"]


def test_json_nested_too_deep_is_a_400(reader: Client) -> None:
    problem(reader.post("/rank", content="[" * 100_000, headers=JSON), 400)


def test_text_that_is_not_utf_8_is_a_400(reader: Client) -> None:
    problem(reader.post("/rank", content=b'{"user": {"id": "\xff"}}', headers=JSON), 400)


def test_a_body_that_is_not_said_to_be_json_is_a_415(reader: Client) -> None:
    found = problem(reader.post("/rank", content='{"user": {"id": "u1"}}', headers={"Content-Type": "text/plain"}), 415)
    assert "Content-Type: application/json" in found["detail"]


def test_no_body_at_all_is_a_422(reader: Client) -> None:
    problem(reader.post("/rank", headers=JSON), 422)


def test_an_unknown_member_is_refused_by_its_pointer(reader: Client) -> None:
    assert pointers(reader.post("/rank", json={"user": U1, "kk": 3})) == ["/kk"]


def test_a_field_that_the_live_schema_does_not_have_is_refused_by_its_pointer(reader: Client) -> None:
    body = {"user": {"id": "u1", "features": {"agee": 3}}, "context": {"wether": "sunny"}}
    response = reader.post("/rank", json=body)
    assert pointers(response) == ["/user/features/agee", "/context/wether"]
    assert "there are: battery, daytime" in response.json()["detail"]


def test_a_name_that_no_field_can_have_is_refused_with_its_pointer_escaped(reader: Client) -> None:
    assert pointers(reader.post("/rank", json={"user": U1, "context": {"a/b~c": "x"}})) == ["/context/a~1b~0c"]


def test_a_retired_field_is_accepted_and_changes_nothing(reader: Client) -> None:
    asked = {"user": U1, "context": {"daytime": "morning"}}
    retired = {"user": U1, "context": {"daytime": "morning", "screen": "wide"}}
    assert reader.post("/rank", json=retired).json()["items"] == reader.post("/rank", json=asked).json()["items"]


def test_the_users_id_may_not_be_sent_as_a_feature(reader: Client) -> None:
    body = {"user": {"id": "u1", "features": {"user_id": "u2"}}}
    assert pointers(reader.post("/rank", json=body)) == ["/user/features/user_id"]


@pytest.mark.parametrize(
    ("features", "pointer"),
    [
        ({"age": "old"}, "/user/features/age"),
        ({"age": True}, "/user/features/age"),
        ({"country": 1.5}, "/user/features/country"),
        ({"country": ["PT"]}, "/user/features/country"),
        ({"interests": "fun"}, "/user/features/interests"),
        ({"interests": ["fun", 1]}, "/user/features/interests"),
        ({"country": {"code": "PT"}}, "/user/features/country"),
        ({"country": "P\x00T"}, "/user/features/country"),
        ({"country": "P" * 513}, "/user/features/country"),
        ({"age": 10**400}, "/user/features/age"),
    ],
)
def test_a_value_of_the_wrong_type_is_refused_by_its_pointer(
    reader: Client, features: dict[str, Any], pointer: str
) -> None:
    assert pointers(reader.post("/rank", json={"user": {"id": "u1", "features": features}})) == [pointer]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_nan_and_infinity_are_refused(reader: Client, number: str) -> None:
    body = f'{{"user": {{"id": "u1"}}, "context": {{"battery": {number}}}}}'
    assert pointers(reader.post("/rank", content=body, headers=JSON)) == ["/context/battery"]


def test_half_a_surrogate_pair_is_refused(reader: Client) -> None:
    body = '{"user": {"id": "\\ud800", "features": {"country": "\\udfff"}}}'
    assert pointers(reader.post("/rank", content=body, headers=JSON)) == ["/user/id", "/user/features/country"]


def test_an_explicit_null_is_a_value(reader: Client) -> None:
    body = {"user": {"id": "u1", "features": {"country": None, "age": None, "interests": None}}}
    assert reader.post("/rank", json=body).status_code == 200


def test_empty_candidates_are_a_422(reader: Client) -> None:
    assert pointers(reader.post("/rank", json={"user": U1, "candidates": []})) == ["/candidates"]


def test_duplicate_candidates_count_once_with_a_warning(reader: Client) -> None:
    answer = reader.post("/rank", json={"user": U1, "candidates": [APPS[0], APPS[1], APPS[0]]}).json()
    assert sorted(item["app_id"] for item in answer["items"]) == APPS[:2]
    assert {"code": "duplicate", "app_id": APPS[0]} in answer["warnings"]


def test_ten_thousand_and_one_candidates_are_a_413(reader: Client) -> None:
    body = {"user": U1, "candidates": [f"a{number}" for number in range(10_001)]}
    assert "10001 candidates" in problem(reader.post("/rank", json=body), 413)["detail"]


@pytest.mark.parametrize("member", ["installed", "uses"])
def test_ten_thousand_and_one_apps_of_a_user_are_a_413_that_names_where(reader: Client, member: str) -> None:
    apps = {f"a{number}": 1 for number in range(10_001)}
    body = {"user": {"id": "u1", member: apps if member == "uses" else list(apps)}}
    assert f"10001 {member} where at most 10000" in problem(reader.post("/rank", json=body), 413)["detail"]


@pytest.mark.parametrize(
    "history",
    [{"installed": [str(number) for number in range(10_001)]}, {"uses": {str(n): 1 for n in range(10_001)}}],
    ids=["installed", "uses"],
)
def test_no_user_is_stored_with_more_apps_than_a_ranking_may_name(reader: Client, history: dict[str, Any]) -> None:
    found = problem(reader.put("/users", json={"users": [{"id": "nobody yet"}, {"id": "u9", **history}]}), 413)
    assert f"10001 {next(iter(history))} of user 'u9' where at most 10000 are allowed" in found["detail"]
    problem(reader.get("/users/nobody yet"), 404)


def test_ten_thousand_candidates_are_answered(reader: Client) -> None:
    body = {"user": U1, "candidates": [*APPS, *(f"a{number}" for number in range(10_000 - len(APPS)))]}
    answer = reader.post("/rank", json=body).json()
    assert len(answer["items"]) == 10
    assert len(answer["warnings"]) == 10_000 - len(APPS)


def test_a_body_of_50_mb_is_a_413(reader: Client) -> None:
    problem(reader.post("/rank", content=b" " * 50_000_000, headers=JSON), 413)


def test_a_body_of_50_mb_that_does_not_say_its_length_is_a_413(reader: Client) -> None:
    chunks = (b" " * 1_000_000 for _ in range(50))
    problem(reader.post("/rank", content=chunks, headers=JSON), 413)


@pytest.mark.parametrize("k", [0, -1, 101, 1.5, "10", True, None])
def test_k_outside_its_bounds_or_not_a_whole_number_is_a_422(reader: Client, k: object) -> None:
    assert pointers(reader.post("/rank", json={"user": U1, "k": k})) == ["/k"]


def test_explanations_are_not_there_yet(reader: Client) -> None:
    assert reader.post("/rank", json={"user": U1, "explain": False}).status_code == 200
    assert pointers(reader.post("/rank", json={"user": U1, "explain": True})) == ["/explain"]


@pytest.mark.parametrize("bad", ["", "a\nb", "a\x7f", "x" * 513, "x" * 10_000])
def test_an_id_with_control_characters_or_too_long_is_a_422(reader: Client, bad: str) -> None:
    body = {"user": {"id": bad, "installed": [bad]}, "candidates": [bad], "exclude": [bad]}
    assert pointers(reader.post("/rank", json=body)) == ["/user/id", "/user/installed/0", "/candidates/0", "/exclude/0"]


@pytest.mark.parametrize("path", ["/users/u1%00", "/apps/a%09b", f"/users/{'x' * 10_000}"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_such_an_id_in_the_path_is_a_422_too(reader: Client, method: str, path: str) -> None:
    assert pointers(reader.request(method, path))[0].startswith("/path/")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("PUT", "/users", {"users": []}),
        ("PUT", "/users", {"users": [{"id": "u1", "features": {"age": "old"}}]}),
        ("PUT", "/users", {"users": [{"id": "u1", "uses": {"com.a": 0}}]}),
        ("PUT", "/users", {"users": [{"id": "u1", "instaled": []}]}),
        ("PUT", "/apps", {"apps": [{"id": "a", "features": {"rating": "five"}}]}),
        ("PUT", "/apps", {"apps": [{"id": "a", "available": "no"}]}),
        ("PUT", "/apps", {"apps": [{"id": "a\x00"}]}),
    ],
)
def test_a_batch_with_a_wrong_record_is_refused_as_a_whole(
    reader: Client, method: str, path: str, body: dict[str, Any]
) -> None:
    before = reader.get("/users/u1").json()
    assert pointers(reader.request(method, path, json=body))
    assert reader.get("/users/u1").json() == before


def test_a_wrong_record_is_named_by_its_place(reader: Client) -> None:
    body = {"users": [{"id": "u1"}, {"id": "u2", "features": {"age": "old"}}]}
    assert pointers(reader.put("/users", json=body)) == ["/users/1/features/age"]


def test_a_thousand_wrong_values_are_counted_and_the_first_hundred_listed(reader: Client) -> None:
    body = {"user": U1, "candidates": ["\n"] * 1000}
    found = problem(reader.post("/rank", json=body), 422)
    assert len(found["errors"]) == 100
    assert "and 997 more" in found["detail"]


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/rank", 405), ("GET", "/nothing", 404), ("POST", "/", 404)]
)
def test_a_call_that_is_not_there_is_a_problem_too(reader: Client, method: str, path: str, status: int) -> None:
    problem(reader.request(method, path), status)


@pytest.mark.parametrize("version", ["latest", "..", "20260101T000000Z-AAAAAA", "x" * 10_000])
def test_a_version_of_no_such_form_is_refused_before_any_look_at_a_disk(reader: Client, version: str) -> None:
    assert pointers(reader.post("/admin/reload", json={"version": version}, headers=ADMIN)) == ["/version"]


@pytest.mark.parametrize("path", ["..%2F..%2Fetc%2Fpasswd", "..", "%2e%2e/%2e%2e/etc"])
def test_dots_in_a_versions_path_lead_nowhere(reader: Client, path: str) -> None:
    response = reader.get(f"/admin/versions/{path}", headers=ADMIN)
    assert response.status_code in (404, 422)
    problem(response, response.status_code)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", ""), ("POST", "/gate"), ("POST", "/rank")],
)
def test_a_version_that_does_not_exist_is_a_404_that_says_where_to_look(reader: Client, method: str, path: str) -> None:
    body = {"user": U1} if path == "/rank" else None
    response = reader.request(method, f"/admin/versions/20260101T000000Z-ffffff{path}", json=body, headers=ADMIN)
    assert "20260101T000000Z-ffffff" in problem(response, 404)["detail"]


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/rank", {"user": U1, "candidates": [0] * 5_000}),
        ("POST", "/rank", {"user": U1, "exclude": [*["a"] * 4_321, 0, *[""] * 5_000]}),
        ("POST", "/rank", {"user": {**U1, "uses": {str(number): 0 for number in range(5_000)}}}),
        ("POST", "/rank", {"user": {**U1, "features": {f"A{number}": 0 for number in range(5_000)}}}),
        ("POST", "/rank", {"user": U1, "context": {f"a{number}": 0 for number in range(5_000)}}),
        ("POST", "/rank", {"user": U1, **{f"a{number}": 0 for number in range(5_000)}}),
        ("PUT", "/users", {"users": [1] * 5_000}),
        ("PUT", "/users", {"users": [{"id": "u1", "features": {"age": "old"}}] * 5_000}),
        ("PUT", "/apps", {"apps": [{}] * 5_000}),
    ],
)
def test_what_is_wrong_all_over_is_not_listed_to_the_end(
    reader: Client, monkeypatch: pytest.MonkeyPatch, method: str, path: str, body: dict[str, Any]
) -> None:
    counts: list[int] = []
    whole = Refused.__init__

    def counted(self: Refused, *refusals: Refusal) -> None:
        counts.append(len(refusals))
        whole(self, *refusals)

    monkeypatch.setattr(Refused, "__init__", counted)
    problem(reader.request(method, path, json=body), 422)
    assert 1 <= counts[0] <= 2_000


def test_the_first_wrong_one_of_a_long_list_is_named_by_its_place(reader: Client) -> None:
    body = {"user": U1, "exclude": [*["a"] * 4_321, 0, *["a"] * 5_000]}
    assert pointers(reader.post("/rank", json=body)) == ["/exclude/4321"]


def test_the_records_of_a_batch_are_read_apart_from_the_rankings(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    read_in: list[str] = []

    def noted(found: list[dict[str, object]], *, within: tuple[str | int, ...]) -> list[Refusal]:
        read_in.append(current_thread().name)
        return refusals_of(found, within=within)

    monkeypatch.setattr(records, "refusals_of", noted)
    for method, path, body in (("PUT", "/users", {"users": [1]}), ("PUT", "/apps", {"apps": [1]})):
        assert pointers(client.request(method, path, json=body)) == [f"{path}/0"]
    assert all(name.startswith("AnyIO") for name in read_in)
    assert len(read_in) == 2


@pytest.mark.parametrize(
    ("content", "told"),
    [(b"\xff", "utf-8"), (b"[" * 100_000, "recursion"), (b'{"k": ' + b"9" * 5_000 + b"}", "digits")],
)
def test_json_that_is_not_read_here_is_a_400_that_says_why(reader: Client, content: bytes, told: str) -> None:
    found = problem(reader.post("/rank", content=content, headers=JSON), 400)
    assert found["type"] == "urn:appshelf:problem:malformed-body"
    assert told in found["detail"]
