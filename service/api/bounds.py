"""How much one request may ask for, bytes of body and candidates, and how many are taken on at a time."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

RANK = "/rank"


@dataclass(frozen=True)
class Bounds:
    """What one request may ask for at most."""

    max_candidates: int
    max_k: int


class BodyTooLarge(ValueError):
    """A body has more bytes than are allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than the {limit} bytes allowed; send it in several requests")


class TooManyCandidates(ValueError):
    """A request names more candidates than are allowed."""

    def __init__(self, count: int, *, limit: int) -> None:
        super().__init__(f"{count} candidates where at most {limit} are allowed; leave them out to rank the catalogue")


class Overloaded(RuntimeError):
    """More rankings are under way than this process can answer in time."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} rankings are under way here, which is the limit; ask again in a second")


class Shedding:
    """Refuses rankings past the limit at once, unread, so that those under way are still answered in time."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on. Raises Overloaded."""
        if scope["type"] != "http" or scope["path"] != RANK:
            await self._app(scope, receive, send)
            return
        if self._under_way >= self._limit:
            raise Overloaded(self._limit)
        self._under_way += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._under_way -= 1


class BodyLimit:
    """Reads each body before the application does and stops at the limit, whatever Content-Length says of it."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app = app
        self._limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body read. Raises BodyTooLarge."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (body := await self._read(scope, receive)) is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        """The whole body; None where the client went away. Raises BodyTooLarge."""
        declared = Headers(scope=scope).get("content-length", "0")
        if declared.isdecimal() and int(declared) > self._limit:
            raise BodyTooLarge(self._limit)
        body = bytearray()
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if len(body) > self._limit:
                raise BodyTooLarge(self._limit)
            if not message.get("more_body", False):
                return bytes(body)
        return None


def _replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one message, then what the server says next."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
