"""What is the same in every answer: an id, and nothing told that was not meant for the client."""

import json
import logging

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from model.manifest import BundleError
from service.api.problems import STATUS, Boundary, describe
from service.rank_desk import RankDesk
from tests.service.wire import Client, problem

U1 = {"user": {"id": "u1"}}


def test_a_request_id_that_is_sane_is_kept(reader: Client) -> None:
    response = reader.post("/rank", json=U1, headers={"X-Request-ID": "abc-123.4"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "abc-123.4"


@pytest.mark.parametrize("sent", ["", "a b", "x" * 129, '"<script>', "é"])
def test_a_request_id_that_is_not_is_replaced(reader: Client, sent: str) -> None:
    made = reader.get("/livez", headers={"X-Request-ID": sent.encode()}).headers["x-request-id"]
    assert made != sent
    assert len(made) == 32


def test_requests_without_an_id_get_different_ones(reader: Client) -> None:
    assert len({reader.get("/livez").headers["x-request-id"] for _ in range(5)}) == 5


def test_what_is_wrong_with_the_body_as_a_whole_says_so(reader: Client) -> None:
    assert problem(reader.post("/rank"), 422)["detail"].startswith("the body: ")


def test_what_nobody_foresaw_is_a_500_that_tells_the_log_the_cause_and_the_client_nothing(
    reader: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("the secret cause")

    monkeypatch.setattr(RankDesk, "rank", fail)
    with caplog.at_level(logging.ERROR):
        found = problem(reader.post("/rank", json=U1), 500)
    assert "the secret cause" not in json.dumps(found)
    assert any("the secret cause" in str(record.exc_info) for record in caplog.records)


def test_an_error_after_an_answer_has_begun_is_passed_on_since_no_second_answer_can_be_given() -> None:
    async def half_answered(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise ZeroDivisionError

    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def receive() -> Message:
        return {"type": "http.disconnect"}

    with pytest.raises(ZeroDivisionError):
        anyio.run(Boundary(half_answered), {"type": "http", "path": "/"}, receive, send)
    assert len(sent) == 1


def test_every_error_of_the_table_has_a_type_of_its_own() -> None:
    names = [answer.name for answer in STATUS.values()]
    assert len(set(names)) == len(names)
    assert all(400 <= answer.status < 600 for answer in STATUS.values())


def test_an_error_of_a_kind_that_is_not_in_the_table_is_looked_up_by_what_it_inherits() -> None:
    class Truncated(BundleError):
        """A special case of an error that is in the table."""

    assert describe(Truncated("weights.safetensors is truncated")).name == STATUS[BundleError].name
