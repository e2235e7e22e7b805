"""One application's two ways to a ranking, the short one and the documented one, asked without a server."""

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, cast

from fastapi import FastAPI
from starlette.types import Message

from service.api.app import create_app
from service.api.shortcut import Shortcut
from service.container import Container
from service.keys import Keys
from service.ordering import Ranked
from service.ranker import Notice, Ranking, RankQuery
from service.telemetry import REQUEST_ID

RIGHT = b'{"user": {"id": "u1"}, "context": {"daytime": "morning"}, "candidates": ["com.b", "com.a"]}'
JSON = {"content-type": "application/json"}
ANSWER = Ranking("v1", (Ranked("com.a", 0.25),), ("scorer",), (Notice("unknown_app", "com.b"),), 1.23456)


@dataclass
class Desk:
    """A desk that keeps what it was asked, and answers or raises what it is told to."""

    asked: list[tuple[RankQuery, str]] = field(default_factory=list)
    under: list[str | None] = field(default_factory=list)
    full: Exception | None = None
    failure: Exception | None = None
    answer: Ranking = ANSWER

    def check(self, arrived: float) -> None:
        if self.full:
            raise self.full

    async def rank(self, query: RankQuery, *, request_id: str, arrived: float, left: Callable[[], bool]) -> Ranking:
        self.asked.append((query, request_id))
        self.under.append(REQUEST_ID.get())
        await asyncio.sleep(0)
        if self.failure:
            raise self.failure
        return self.answer


@dataclass(frozen=True)
class Sent:
    """A request as the server gives it to an application; `left`: the client is gone where no piece is left."""

    pieces: Sequence[bytes] = (RIGHT,)
    headers: dict[str, str] = field(default_factory=lambda: dict(JSON))
    method: str = "POST"
    path: str = "/rank"
    left: bool = False
    pause: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Answered:
    """The answer as it was sent, in messages."""

    messages: list[Message]

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[str, str]:
        return {name.decode(): value.decode() for name, value in self.messages[0]["headers"]}

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    def told(self) -> object:
        """All of the answer but the id that the request got."""
        if not self.messages:
            return None
        body = json.loads(self.body) if self.body else {}
        assert body.pop("request_id", None) in (None, self.headers["x-request-id"])
        headers = {name: value for name, value in self.headers.items() if name not in ("x-request-id",)}
        return self.status, headers, body


async def call(app: FastAPI, sent: Sent) -> Answered:
    """Ask the application without a server; every piece comes in a turn of the loop of its own."""
    pieces, messages = list(sent.pieces), list[Message]()

    async def receive() -> Message:
        if sent.pause:
            await sent.pause()
        if not pieces:
            return {"type": "http.disconnect"}
        if len(sent.pieces) > 1:
            await asyncio.sleep(0)
        piece = pieces.pop(0)
        return {"type": "http.request", "body": piece, "more_body": bool(pieces) or sent.left}

    async def send(message: Message) -> None:
        messages.append(message)

    headers = [(name.encode(), value.encode("latin-1")) for name, value in sent.headers.items()]
    scope = {"type": "http", "method": sent.method, "path": sent.path, "headers": headers, "query_string": b""}
    await app(scope, receive, send)
    return Answered(messages)


class Ways:
    """One container's application twice: with the shortcut, and without, where the documented route does it all."""

    def __init__(self, container: Container) -> None:
        self.desk = Desk()
        self.container = replace(container, desk=self.desk)  # type: ignore[arg-type]  # a stand-in
        keys = Keys.load(container.settings, container.home, announce=lambda _: None)
        self.short, self.long = create_app(self.container, keys), create_app(self.container, keys)
        self.long.user_middleware = [one for one in self.long.user_middleware if cast(object, one.cls) is not Shortcut]

    def alike(self, sent: Sent) -> Answered:
        """The answer by the short way, after a look at that of the other."""
        short, long = asyncio.run(call(self.short, sent)), asyncio.run(call(self.long, sent))
        assert short.told() == long.told()
        return short

    def queries(self) -> list[str]:
        """What the desk was asked, with types to be seen; forgotten after."""
        asked, self.desk.asked = self.desk.asked, []
        return [repr(query) for query, _ in asked]
