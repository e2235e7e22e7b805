"""How much one request may ask for: bytes of body, candidates and items."""

from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.arrival import BodyTooLarge, BodyTooSlow, whole, within
from service.api.headers import header

RANK = "/rank"


@dataclass(frozen=True)
class Bounds:
    """What one request may ask for at most."""

    max_candidates: int
    max_k: int


class TooManyCandidates(ValueError):
    """A request names more apps in one of its members than are allowed as candidates."""

    def __init__(self, count: int, *, limit: int, member: str) -> None:
        advice = "leave them out to rank the catalogue" if member == "candidates" else "send fewer"
        super().__init__(f"{count} {member} where at most {limit} are allowed; {advice}")


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
        elif (body := await self._read(scope, receive)) is not None:
            await self._app(scope, replay(body, receive), send)

    async def _read(self, scope: Scope, receive: Receive) -> bytes | None:
        declared = header(scope, b"content-length")
        if declared.isdigit() and int(declared) > self._limit:
            raise BodyTooLarge(self._limit)
        try:
            return await within(self._within_s, whole(receive, limit=self._limit))
        except TimeoutError:
            raise BodyTooSlow(self._within_s) from None


def replay(body: bytes, receive: Receive) -> Receive:
    """A `receive` that gives the body in one message, then what the server says next."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def next_message() -> Message:
        return waiting.pop() if waiting else await receive()

    return next_message
