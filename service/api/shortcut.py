"""The short way of a ranking: what is plainly right reaches the desk without the router, dependencies and pydantic."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.bounds import RANK, Bounds, replay
from service.api.headers import header
from service.api.rank import Desk, query_of
from service.api.rank_wire import RankReader, written
from service.keys import Keys
from service.keys import Scope as KeyScope
from service.leaving import LEFT, stays

JSON, JSON_WITH_MORE = b"application/json", b"application/json;"
CONTENT_TYPE = (b"content-type", JSON)


@dataclass(frozen=True)
class Counter:
    """Where rankings are asked for and what one may ask. stopwatch: monotonic seconds."""

    desk: Desk
    bounds: Bounds
    keys: Keys
    stopwatch: Callable[[], float]


class Shortcut:
    """Answers a plainly right `POST /rank` itself and leaves all else to the route, which has a word for each wrong.

    It stands behind Envelope, Boundary and BodyLimit, so id, metrics, problems and limits are those of every call.
    """

    path = RANK  # as a route has one, by which it is counted

    def __init__(self, app: ASGIApp, counter: Counter) -> None:
        self._app = app
        self._counter = counter
        self._read = RankReader()
        self._open = counter.keys.allows(KeyScope.RANK, None)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass the request on. Raises what the route would, and Overloaded before anything is read."""
        if scope["type"] != "http" or scope["path"] != RANK:
            await self._app(scope, receive, send)
            return
        scope["route"], arrived = self, self._counter.stopwatch()
        self._counter.desk.check(arrived)
        if scope["method"] != "POST" or not _is_json(scope) or not (self._open or self._is_let_in(scope)):
            await self._app(scope, receive, send)
            return
        body = (await receive())["body"]
        if (asked := self._read(body)) is None:
            await self._app(scope, replay(body, receive), send)
            return
        query, state = query_of(asked, self._counter.bounds), scope["state"]
        request_id, left = state["request_id"], state.get(LEFT, stays)
        ranking = await self._counter.desk.rank(query, request_id=request_id, arrived=arrived, left=left)
        await _answer(written(ranking, request_id=request_id), send)

    def _is_let_in(self, scope: Scope) -> bool:
        scheme, _, key = header(scope, b"authorization").decode("latin-1").partition(" ")
        return scheme.lower() == "bearer" and bool(key) and self._counter.keys.allows(KeyScope.RANK, key)


def _is_json(scope: Scope) -> bool:
    sent = header(scope, b"content-type")
    return sent == JSON or sent.startswith(JSON_WITH_MORE)


async def _answer(body: bytes, send: Send) -> None:
    headers = [(b"content-length", b"%d" % len(body)), CONTENT_TYPE]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
