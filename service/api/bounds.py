"""How much one request may ask for: bytes of body and candidates."""

from dataclasses import dataclass

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send


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
