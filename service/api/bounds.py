"""How much one request may ask for, bytes of body and candidates, and how many are taken on at a time."""

from dataclasses import dataclass

import anyio
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


class BodyTooSlow(TimeoutError):
    """A body did not arrive in the time that is allowed."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the body did not arrive within {limit_s:g} s; send it again, in one go")


class TooManyCandidates(ValueError):
    """A request names more candidates than are allowed."""

    def __init__(self, count: int, *, limit: int) -> None:
        super().__init__(f"{count} candidates where at most {limit} are allowed; leave them out to rank the catalogue")


class Overloaded(RuntimeError):
    """More rankings are under way than this process can answer in time."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"{limit} rankings are under way here, which is the limit; ask again in a second")


class Shedding:
    """Refuses rankings past the limit at once, so that those under way are still answered in time.

    It stands behind BodyLimit: a client that takes its time over a body is not counted until all of it is here.
    """

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
    """Reads each body before the application does and stops at the limit, whatever Content-Length says of it.

    limit: bytes; within_s: seconds until the whole body must be here.
    """

    def __init__(self, app: ASGIApp, limit: int, *, within_s: float) -> None:
        self._app = app
        self._limit = limit
        self._within_s = within_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with its body read. Raises BodyTooLarge and BodyTooSlow."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
        elif (body := await self._read_in_time(scope, receive)) is not None:
            await self._app(scope, _replay(body, receive), send)

    async def _read_in_time(self, scope: Scope, receive: Receive) -> bytes | None:
        try:
            with anyio.fail_after(self._within_s):
                return await self._read(scope, receive)
        except TimeoutError:
            raise BodyTooSlow(self._within_s) from None

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
