"""A body as it arrives: nearly always it is here already, and then reading it costs no timer."""

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any, TypeVar

from starlette.types import Receive

T = TypeVar("T")


class BodyTooLarge(ValueError):
    """A body has more bytes than are allowed."""

    def __init__(self, limit: int) -> None:
        super().__init__(f"the body is larger than the {limit} bytes allowed; send it in several requests")


class BodyTooSlow(TimeoutError):
    """A body did not arrive in the time that is allowed."""

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"the body did not arrive within {limit_s:g} s; send it again, in one go")


async def whole(receive: Receive, *, limit: int) -> bytes | None:
    """The whole body; None where the client went away. limit: bytes. Raises BodyTooLarge, with the rest unread."""
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if len(body) > limit:
            raise BodyTooLarge(limit)
        if not message.get("more_body", False):
            return bytes(body)
    return None


async def within(seconds: float, waiting: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns; a timer is set only where it has to wait for something. Raises TimeoutError."""
    try:
        waits_for = waiting.send(None)
    except StopIteration as ended:
        result: T = ended.value
        return result
    async with asyncio.timeout(seconds):
        return await _going_on(waiting, waits_for)


@coroutine
def _going_on(begun: Coroutine[Any, Any, T], waits_for: object) -> Generator[Any, Any, T]:
    """The rest of a coroutine that was run to its first wait."""
    try:
        while True:
            try:
                sent = yield waits_for
            except asyncio.CancelledError as error:
                waits_for = begun.throw(error)
            else:
                waits_for = begun.send(sent)
    except StopIteration as ended:
        result: T = ended.value
        return result
