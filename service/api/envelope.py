"""What every request gets: an id that is in its answer and its log lines, and a place in the metrics."""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.headers import header
from service.telemetry import CLIENT_LEFT, REQUEST_ID, Metrics

HEADER = b"x-request-id"
SANE_ID = re.compile(r"[A-Za-z0-9._:=+/-]{1,128}")
NO_ROUTE = "none"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Instruments:
    """What an answer is measured with. clock: monotonic seconds; new_id: an id no other request has."""

    metrics: Metrics
    clock: Callable[[], float]
    new_id: Callable[[], str]


class Envelope:
    """Names the request, times it, and logs it at level debug."""

    def __init__(self, app: ASGIApp, instruments: Instruments) -> None:
        self._app = app
        self._instruments = instruments

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on under its id and send the answer with it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = scope.setdefault("state", {})["request_id"] = self._name(scope)
        token = REQUEST_ID.set(request_id)
        started, status = self._instruments.clock(), CLIENT_LEFT

        async def named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (HEADER, request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, named)
        finally:
            self._record(scope, status, seconds=self._instruments.clock() - started)
            REQUEST_ID.reset(token)

    def _name(self, scope: Scope) -> str:
        sent = header(scope, HEADER).decode("latin-1")
        return sent if SANE_ID.fullmatch(sent) else self._instruments.new_id()

    def _record(self, scope: Scope, status: int, *, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", NO_ROUTE)
        self._instruments.metrics.answered(route, status, seconds=seconds)
        if not log.isEnabledFor(logging.DEBUG):
            return
        facts = {"route": route, "method": scope["method"], "status": status, "took_ms": round(seconds * 1000, 3)}
        log.debug("answered", extra={"facts": facts})
