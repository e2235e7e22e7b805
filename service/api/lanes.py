"""Lanes: calls that wait for the store, or for a gate's judgement, hold up no calls of another kind."""

from collections.abc import Mapping

from anyio import CapacityLimiter
from starlette.types import ASGIApp, Receive, Scope, Send

STORED, ADMIN = "stored", "admin"

LANES: Mapping[str, str] = {
    "users": STORED,
    "apps": STORED,
    "events": STORED,
    "admin": ADMIN,
    "admin/retrain": STORED,
    "admin/jobs": STORED,
}
"""The lane of a path by its first two parts, else by its first; any other has none and never waits: rankings, which
need no thread (service.rank_desk), and probes.

Asking for a job, looking at it and cancelling it never wait for the end of a gate's judgement or of a rollout.
"""

WIDTHS: Mapping[str, int] = {STORED: 4, ADMIN: 2}
"""Requests of a lane that are worked on at a time."""

THREADS = sum(WIDTHS.values()) + 2
"""One for each request in a lane, and some for what has none."""


class Lanes:
    """Lets so many requests of a lane on at a time, in the order in which they came; the others wait without a thread.

    It stands behind BodyLimit, so that nobody who is slow to send holds a place.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._limiters = {name: CapacityLimiter(width) for name, width in WIDTHS.items()}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on when there is room in its lane."""
        lane = _lane(scope["path"]) if scope["type"] == "http" else None
        if lane is None:
            await self._app(scope, receive, send)
            return
        async with self._limiters[lane]:
            await self._app(scope, receive, send)


def _lane(path: str) -> str | None:
    first, *rest = path.lstrip("/").split("/", 2)
    return LANES.get("/".join((first, *rest[:1]))) or LANES.get(first)
