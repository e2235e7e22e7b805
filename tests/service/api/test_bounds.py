"""The limit on a body holds on the stream, whatever the headers say; the limit on rankings holds at once."""

import anyio
import anyio.lowlevel
import pytest
from starlette.types import Message, Receive, Scope, Send

from service.api.bounds import BodyLimit, BodyTooLarge, Overloaded, Shedding

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
        anyio.run(BodyLimit(self.application, LIMIT), self.scope, self.receive, self.send)


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


def test_what_is_not_http_passes_untouched() -> None:
    stream = Stream(b"12345678901")
    stream.scope = {"type": "lifespan"}
    stream.pass_through()
    assert stream.seen[0]["body"] == b"12345678901"


class Busy:
    """An application that answers when it is let, and how many requests have reached it."""

    def __init__(self) -> None:
        self.reached = 0
        self.let = anyio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached += 1
        await self.let.wait()


async def _nothing() -> Message:
    return {"type": "http.disconnect"}


async def _nowhere(_: Message) -> None:
    return None


@pytest.mark.parametrize(("path", "shed"), [("/rank", True), ("/readyz", False), ("/admin/versions", False)])
def test_rankings_past_the_limit_are_refused_at_once_and_nothing_else_is(path: str, shed: bool) -> None:
    async def ask_twice() -> int:
        busy = Busy()
        shedding, scope = Shedding(busy, 1), {"type": "http", "path": path}
        async with anyio.create_task_group() as asking:
            asking.start_soon(shedding, scope, _nothing, _nowhere)
            await anyio.lowlevel.checkpoint()
            if shed:
                with pytest.raises(Overloaded, match="1 rankings are under way"):
                    await shedding(scope, _nothing, _nowhere)
            else:
                asking.start_soon(shedding, scope, _nothing, _nowhere)
                await anyio.lowlevel.checkpoint()
            busy.let.set()
        await shedding(scope, _nothing, _nowhere)  # there is room again
        return busy.reached

    assert anyio.run(ask_twice) == (2 if shed else 3)
