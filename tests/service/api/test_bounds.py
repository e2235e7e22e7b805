"""The limit on a body holds on the stream, whatever the headers say, and no slow body is in the way of others."""

import json
from pathlib import Path

import anyio
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.app import create_app
from service.api.arrival import BodyTooLarge, BodyTooSlow
from service.api.bounds import BodyLimit
from service.container import build
from service.keys import Keys
from tests.service.store_front import APPS, settings

LIMIT = 10


class Stream:
    """A request that arrives in chunks, and the application behind the limit that keeps what it is given."""

    def __init__(self, *chunks: bytes, content_length: bytes | None = None) -> None:
        self.arriving = list(chunks)
        self.seen: list[Message] = []
        headers = [] if content_length is None else [(b"content-length", content_length)]
        self.scope: Scope = {"type": "http", "headers": headers}

    async def receive(self) -> Message:
        if not self.arriving:
            return {"type": "http.disconnect"}
        body = self.arriving.pop(0)
        return {"type": "http.request", "body": body, "more_body": bool(self.arriving)}

    async def application(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.seen = [await receive(), await receive()]

    async def send(self, message: Message) -> None:
        raise AssertionError("nothing is answered here")

    def pass_through(self) -> None:
        anyio.run(BodyLimit(self.application, LIMIT, within_s=60), self.scope, self.receive, self.send)


def test_a_body_within_the_limit_arrives_in_one_piece() -> None:
    stream = Stream(b"12345", b"67890")
    stream.pass_through()
    assert stream.seen == [
        {"type": "http.request", "body": b"1234567890", "more_body": False},
        {"type": "http.disconnect"},
    ]


def test_a_body_over_the_limit_is_refused_with_the_rest_unread() -> None:
    stream = Stream(b"123456", b"123456", b"never read")
    with pytest.raises(BodyTooLarge, match="10 bytes"):
        stream.pass_through()
    assert stream.arriving == [b"never read"]


def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    stream = Stream(b"12345678901", content_length=b"11")
    with pytest.raises(BodyTooLarge):
        stream.pass_through()
    assert stream.arriving == [b"12345678901"]


def test_a_declared_length_below_the_truth_does_not_help() -> None:
    with pytest.raises(BodyTooLarge):
        Stream(b"12345678901", content_length=b"2").pass_through()


def test_a_client_that_goes_away_within_its_body_calls_nobody() -> None:
    stream = Stream()
    stream.pass_through()
    assert stream.seen == []


def test_a_body_that_does_not_arrive_in_time_is_refused() -> None:
    async def half() -> Message:
        if stream.arriving:
            return {"type": "http.request", "body": stream.arriving.pop(), "more_body": True}
        await anyio.sleep_forever()
        raise AssertionError("it is not waited for")

    stream = Stream(b"12345")
    with pytest.raises(BodyTooSlow, match=r"did not arrive within 0\.01 s"):
        anyio.run(BodyLimit(stream.application, LIMIT, within_s=0.01), stream.scope, half, stream.send)
    assert stream.seen == []


def test_what_is_not_http_passes_untouched() -> None:
    stream = Stream(b"12345678901")
    stream.scope = {"type": "lifespan"}
    stream.pass_through()
    assert stream.seen[0]["body"] == b"12345678901"


async def _nowhere(_: Message) -> None:
    return None


class Slow:
    """A client that has sent its request's head and says no more of its body."""

    def __init__(self) -> None:
        self.waited_for = anyio.Event()

    async def __call__(self) -> Message:
        self.waited_for.set()
        await anyio.sleep_forever()
        raise AssertionError("it says no more")


def test_clients_that_take_their_time_over_a_body_take_no_place_of_a_ranking(home: Path) -> None:
    container = build(settings(home).model_copy(update={"max_under_way": 1}))
    application = create_app(container, Keys.load(container.settings, container.home, announce=lambda _: None))
    headers = [(b"content-type", b"application/json")]
    scope: Scope = {"type": "http", "method": "POST", "path": "/rank", "headers": headers, "query_string": b""}
    body = json.dumps({"user": {"id": "u1"}, "candidates": APPS}).encode()
    statuses: list[int] = []

    async def quick() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    async def note_status(message: Message) -> None:
        statuses.extend([message["status"]] if "status" in message else [])

    async def ask_beside_slow_ones() -> None:
        slow_ones = [Slow() for _ in range(3)]
        async with anyio.create_task_group() as asking:
            for slow in slow_ones:
                asking.start_soon(application, {**scope}, slow, _nowhere)
                await slow.waited_for.wait()
            await application({**scope}, quick, note_status)
            asking.cancel_scope.cancel()

    container.background.start()
    try:
        anyio.run(ask_beside_slow_ones)
    finally:
        container.background.stop()
    assert statuses == [200]
