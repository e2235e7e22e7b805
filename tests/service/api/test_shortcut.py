"""The short way of a ranking against the documented route: whoever asks cannot tell which of them answered."""

import asyncio
import json
import logging
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from pydantic import SecretStr

from service.admission import Refusal, Refused
from service.api import app as application
from service.api.lanes import Lanes
from service.container import Container, build
from service.errors import ClientLeft, NoLiveVersion, Overloaded, StoreUnavailable
from service.telemetry import REQUEST_ID
from tests.service.api.test_rank_wire import altered, damaged
from tests.service.api.two_ways import JSON, RIGHT, Sent, Ways, call
from tests.service.store_front import settings as settings_of

KEY = "the rank key"


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Container:
    return build(settings_of(tmp_path_factory.mktemp("shop")))


@pytest.fixture
def ways(shop: Container) -> Ways:
    return Ways(shop)


@pytest.fixture
def keyed(tmp_path: Path) -> Ways:
    return Ways(build(settings_of(tmp_path).model_copy(update={"rank_key": SecretStr(KEY)})))


def bearer(value: str) -> Sent:
    return Sent(headers={**JSON, "authorization": value})


def test_a_right_request_is_answered_alike_and_asks_the_desk_the_same(ways: Ways) -> None:
    answer = ways.alike(Sent())
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.body)["warnings"] == [{"code": "unknown_app", "app_id": "com.b"}]
    first, second = ways.queries()
    assert first == second


def test_a_right_request_takes_the_short_way(ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lost(*_: object) -> None:
        raise AssertionError("it went on")

    monkeypatch.setattr(Lanes, "__call__", lost)
    for sent in (Sent(), Sent(headers={"content-type": "application/json; charset=utf-8"})):
        assert asyncio.run(call(ways.short, sent)).status == 200


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (Sent(pieces=[b'{"user": ']), 400),
        (Sent(pieces=[b"[" * 100_000]), 400),
        (Sent(pieces=[b'{"user": {"id": "\xff"}}']), 400),
        (Sent(pieces=[b""]), 422),
        (Sent(pieces=[b"null"]), 422),
        (Sent(pieces=[RIGHT[:-1] + b', "kk": 3}']), 422),
        (Sent(pieces=[RIGHT[:-1] + b', "k": 101}']), 422),
        (Sent(pieces=[RIGHT[:-1] + b', "k": 1.0}']), 422),
        (Sent(pieces=[RIGHT[:-1] + b', "explain": true}']), 422),
        (Sent(pieces=[b'{"user": {"id": "u1"}, "candidates": []}']), 422),
        (Sent(pieces=[b'{"user": {"id": "a\\nb"}, "exclude": ["x", "\\u007f"]}']), 422),
        (Sent(pieces=[json.dumps({"user": {"id": "u1"}, "candidates": ["a"] * 10_001}).encode()]), 413),
        (Sent(pieces=[json.dumps({"user": {"id": "u1"}, "exclude": ["a"] * 10_001}).encode()]), 413),
        (Sent(pieces=[json.dumps({"user": {"id": "u1", "installed": ["a"] * 10_001}}).encode()]), 413),
        (Sent(pieces=[json.dumps({"user": {"id": "u1", "uses": {f"a{n}": 1 for n in range(10_001)}}}).encode()]), 413),
        (Sent(pieces=[b" " * 5_000_000]), 413),
        (Sent(headers={**JSON, "content-length": "5000000"}), 413),
        (Sent(headers={"content-type": "text/plain"}), 415),
        (Sent(headers={"content-type": "application/jsonp"}), 415),
        (Sent(headers={}), 415),
        (Sent(method="GET"), 405),
        (Sent(method="HEAD"), 405),
        (Sent(method="OPTIONS"), 405),
        (Sent(method="OPTIONS", headers={"origin": "http://a", "access-control-request-method": "POST"}), 405),
        (Sent(method="PUT"), 405),
        (Sent(path="/rank/"), 404),
        (Sent(path="//rank"), 404),
        (Sent(path="/Rank"), 404),
    ],
)
def test_every_refusal_is_that_of_the_documented_route(ways: Ways, sent: Sent, status: int) -> None:
    assert ways.alike(sent).status == status
    assert ways.queries() == []


@pytest.mark.parametrize("content_type", ["APPLICATION/JSON", "application/vnd.shop+json", " application/json "])
def test_json_by_another_name_is_taken_as_by_the_documented_route(ways: Ways, content_type: str) -> None:
    assert ways.alike(Sent(headers={"content-type": content_type})).status in (200, 415)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-32", "utf-8-sig"])
def test_json_in_another_encoding_is_answered_too(ways: Ways, encoding: str) -> None:
    assert ways.alike(Sent(pieces=[RIGHT.decode().encode(encoding)])).status == 200


@settings(max_examples=150, deadline=None)
@given(text=damaged() | altered().map(lambda body: json.dumps(body).encode()))
def test_any_body_is_answered_alike_and_asks_the_desk_the_same(shop: Container, text: bytes) -> None:
    ways = Ways(shop)
    ways.alike(Sent(pieces=[text]))
    asked = ways.queries()
    assert asked[: len(asked) // 2] == asked[len(asked) // 2 :]


@pytest.mark.parametrize(
    ("failure", "status"),
    [
        (Refused(Refusal("/context/daytime", "no such field")), 422),
        (NoLiveVersion(), 503),
        (StoreUnavailable("here", "gone"), 503),
        (Overloaded("128 rankings are under way"), 503),
        (ClientLeft(), 499),
        (ZeroDivisionError("the secret cause"), 500),
    ],
)
def test_what_the_desk_raises_is_the_same_problem(ways: Ways, failure: Exception, status: int) -> None:
    ways.desk.failure = failure
    answer = ways.alike(Sent())
    assert answer.status == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert "secret" not in answer.body.decode()


@pytest.mark.parametrize("pieces", [(RIGHT,), (b"no JSON",)])
def test_a_full_desk_refuses_at_once_before_the_body_is_looked_at(ways: Ways, pieces: Sequence[bytes]) -> None:
    ways.desk.full = Overloaded("128 rankings are under way")
    answer = asyncio.run(call(ways.short, Sent(pieces=pieces)))
    assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert json.loads(answer.body)["type"] == "urn:appshelf:problem:overloaded"
    assert asyncio.run(call(ways.short, Sent(method="GET", path="/livez"))).status == 200


@pytest.mark.parametrize("size", [1, 7, 60])
def test_a_body_in_many_pieces_is_answered_like_one_in_one(ways: Ways, size: int) -> None:
    pieces = [RIGHT[start : start + size] for start in range(0, len(RIGHT), size)]
    assert ways.alike(Sent(pieces=pieces)).status == 200
    assert len(set(ways.queries())) == 1


def test_a_client_that_goes_away_within_its_body_is_not_answered_and_asks_nothing(ways: Ways) -> None:
    for sent in (Sent(pieces=[RIGHT[:20]], left=True), Sent(pieces=[RIGHT[:20], RIGHT[20:30]], left=True)):
        assert ways.alike(sent).messages == []
    assert ways.queries() == []


def test_a_body_that_is_slow_to_come_is_a_408_that_hangs_up(shop: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "BODY_WITHIN_S", 0.01)
    ways = Ways(shop)

    async def forever() -> None:
        await asyncio.Event().wait()

    answer = ways.alike(Sent(pause=forever))
    assert (answer.status, answer.headers["connection"]) == (408, "close")
    assert ways.queries() == []


@pytest.mark.parametrize("value", [f"Bearer {KEY}", f"bearer {KEY}", f"BEARER  {KEY} "])
def test_the_right_key_lets_in_however_it_is_spelled(keyed: Ways, value: str) -> None:
    assert keyed.alike(bearer(value)).status == 200


@pytest.mark.parametrize(
    ("value", "status"),
    [("Bearer a guess", 403), ("Bearer", 401), ("Bearer ", 401), (f"Basic {KEY}", 401), (KEY, 401), ("Bearer é", 403)],
)
def test_any_other_key_is_turned_away_as_by_the_documented_route(keyed: Ways, value: str, status: int) -> None:
    assert keyed.alike(bearer(value)).status == status
    assert keyed.alike(Sent()).status == 401
    assert keyed.queries() == []


@pytest.mark.parametrize("sent", ["abc-123.4", "a b", "x" * 129, ""])
def test_the_requests_id_is_kept_where_it_is_sane_and_told_everywhere(ways: Ways, sent: str) -> None:
    answer = asyncio.run(call(ways.short, Sent(headers={**JSON, "x-request-id": sent})))
    named = answer.headers["x-request-id"]
    assert (named == sent) is (sent == "abc-123.4")
    assert json.loads(answer.body)["request_id"] == named == ways.desk.asked[0][1] == ways.desk.under[0]
    assert REQUEST_ID.get() is None


def test_rankings_are_counted_and_logged_by_their_route_and_outcome(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ways = Ways(build(settings_of(tmp_path)))
    with caplog.at_level(logging.DEBUG, logger="service.api.envelope"):
        asyncio.run(call(ways.short, Sent()))
        asyncio.run(call(ways.short, Sent(pieces=[b"{}"])))
        ways.desk.full = Overloaded("too many")
        asyncio.run(call(ways.short, Sent()))
    text = ways.container.metrics.expose(lambda: None).decode()
    for outcome in ("ok", "refused", "failed"):
        assert f'appshelf_request_seconds_count{{outcome="{outcome}",route="/rank"}} 1.0' in text
    facts = [getattr(record, "facts", {}) for record in caplog.records]
    assert [(one["route"], one["method"], one["status"]) for one in facts] == [
        ("/rank", "POST", 200),
        ("/rank", "POST", 422),
        ("/rank", "POST", 503),
    ]


def test_a_process_that_is_ending_answers_what_still_comes(ways: Ways) -> None:
    ways.container.readiness.drain()
    assert ways.alike(Sent()).status == 200


def test_the_document_describes_the_ranking_by_the_wires_models(ways: Ways) -> None:
    document = ways.short.openapi()
    assert document == ways.long.openapi()
    ranking = document["paths"]["/rank"]["post"]
    body, answer = (
        one["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
        for one in (ranking["requestBody"], ranking["responses"]["200"])
    )
    assert (body, answer) == ("RankRequest", "RankAnswer")
    assert set(document["components"]["schemas"][answer]["properties"]) == set(
        json.loads(asyncio.run(call(ways.short, Sent())).body)
    )
