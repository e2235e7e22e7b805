"""Every error as application/problem+json (RFC 9457): one table from what went wrong to what HTTP says of it."""

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from model.data.dataset import DatasetError
from model.manifest import BundleError
from service import errors
from service.admission import Refusal, Refused
from service.api.access import KeyMissing, KeyRefused
from service.api.admin_messages import ReportMessage
from service.api.arrival import BodyTooLarge, BodyTooSlow
from service.api.bounds import TooManyCandidates
from service.api.event_messages import TooManyEvents
from service.api.job_messages import place_of
from service.api.messages import SPELLING
from service.preparation import DryRunFailed
from service.telemetry import CLIENT_LEFT

MAX_LISTED = 100
PROBLEM_JSON = "application/problem+json"
RETRY_LATER = {"Retry-After": "1"}
HANG_UP = {"Connection": "close"}  # what is still to come of the request is not read
ASK_FOR_KEY = {"WWW-Authenticate": 'Bearer realm="appshelf"'}

log = logging.getLogger(__name__)


class NotStored(LookupError):
    """No user or app of that id is stored."""


class NotReady(RuntimeError):
    """The process should not be sent requests now."""


@dataclass(frozen=True)
class Answer:
    """What HTTP says of one kind of error; `name` ends the problem's type."""

    status: int
    name: str
    headers: Mapping[str, str] = field(default_factory=dict)


STATUS: Mapping[type[Exception], Answer] = {
    Refused: Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "refused-value"),
    TooManyCandidates: Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-many-candidates"),
    TooManyEvents: Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too-many-events"),
    BodyTooLarge: Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "body-too-large"),
    BodyTooSlow: Answer(HTTPStatus.REQUEST_TIMEOUT, "body-too-slow", HANG_UP),
    errors.ClientLeft: Answer(CLIENT_LEFT, "client-left"),
    errors.Overloaded: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "overloaded", RETRY_LATER),
    KeyMissing: Answer(HTTPStatus.UNAUTHORIZED, "key-missing", ASK_FOR_KEY),
    KeyRefused: Answer(HTTPStatus.FORBIDDEN, "key-refused"),
    NotStored: Answer(HTTPStatus.NOT_FOUND, "not-stored"),
    errors.UnknownVersion: Answer(HTTPStatus.NOT_FOUND, "unknown-version"),
    errors.UnreasonedForce: Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "unreasoned-force"),
    errors.GateRefused: Answer(HTTPStatus.CONFLICT, "gate-refused"),
    errors.IllegalTransition: Answer(HTTPStatus.CONFLICT, "illegal-transition"),
    errors.NothingToPromote: Answer(HTTPStatus.CONFLICT, "nothing-to-promote"),
    errors.NothingToRollBack: Answer(HTTPStatus.CONFLICT, "nothing-to-roll-back"),
    errors.RollbackRefused: Answer(HTTPStatus.CONFLICT, "rollback-refused"),
    errors.LiveMoved: Answer(HTTPStatus.CONFLICT, "live-moved"),
    errors.JudgingBrokeOff: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "judging-broke-off", RETRY_LATER),
    errors.RolloutUnderWay: Answer(HTTPStatus.CONFLICT, "rollout-under-way"),
    errors.RolloutFailed: Answer(HTTPStatus.CONFLICT, "rollout-failed"),
    errors.UnknownJob: Answer(HTTPStatus.NOT_FOUND, "unknown-job"),
    errors.JobUnderWay: Answer(HTTPStatus.CONFLICT, "retrain-under-way"),
    errors.JobEnded: Answer(HTTPStatus.CONFLICT, "job-ended"),
    errors.RetrainRefused: Answer(HTTPStatus.UNPROCESSABLE_ENTITY, "retrain-refused"),
    BundleError: Answer(HTTPStatus.CONFLICT, "bundle-unusable"),
    DatasetError: Answer(HTTPStatus.CONFLICT, "no-dataset"),
    NotReady: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "not-ready", RETRY_LATER),
    DryRunFailed: Answer(HTTPStatus.CONFLICT, "dry-run-failed"),
    errors.NoLiveVersion: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "no-live-version", RETRY_LATER),
    errors.BundlesUnavailable: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "bundles-unavailable", RETRY_LATER),
    errors.TableUnbuilt: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "table-unbuilt", RETRY_LATER),
    errors.StoreUnavailable: Answer(HTTPStatus.SERVICE_UNAVAILABLE, "store-unavailable", RETRY_LATER),
}


@dataclass(frozen=True)
class Problem:
    """One error on its way out; `members` are extension members, such as a gate's report."""

    status: int
    detail: str
    name: str | None = None
    refusals: tuple[Refusal, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    members: Mapping[str, Any] = field(default_factory=dict)

    def respond(self, scope: Scope) -> Response:
        """The response; the request's id is in it, so that a user's complaint can be found in the log."""
        body = {
            "type": f"urn:appshelf:problem:{self.name}" if self.name else "about:blank",
            "title": (self.name or HTTPStatus(self.status).phrase).replace("-", " ").capitalize(),
            "status": self.status,
            "detail": self.detail,
            "instance": quote(scope["path"]),
            "request_id": scope.get("state", {}).get("request_id"),
            "errors": [{"pointer": one.pointer, "detail": one.detail} for one in self.refusals[:MAX_LISTED]],
            **self.members,
        }
        return Response(json.dumps(body), self.status, self.headers, media_type=PROBLEM_JSON)


def describe(error: Exception) -> Problem:
    """What is told of an error: all of it where it was meant for the client, nothing where it was not."""
    if isinstance(error, RequestValidationError):
        return _invalid(error)
    if isinstance(error, HTTPException):
        if isinstance(error.__cause__, ValueError | RecursionError):  # FastAPI keeps to itself why it read no JSON
            return Problem(400, f"the body is not JSON that is read here: {error.__cause__}", "malformed-body")
        return Problem(error.status_code, error.detail, headers=error.headers or {})
    known = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), None)
    if known is None:
        log.error("a request failed", exc_info=error)
        return Problem(500, "the server failed on this request; its log has the cause under this request_id", "failed")
    refusals = error.refusals if isinstance(error, Refused) else ()
    place = place_of(error.job_id) if isinstance(error, errors.JobUnderWay) else {}
    return Problem(known.status, str(error), known.name, refusals, {**known.headers, **place}, _members(error))


def _members(error: Exception) -> Mapping[str, Any]:
    """What a program may want of an error beside its sentence."""
    if isinstance(error, errors.GateRefused):
        return {"report": ReportMessage.of(error.report).model_dump()}
    return {"job": error.job_id} if isinstance(error, errors.JobUnderWay) else {}


async def respond(request: Request, error: Exception) -> Response:
    """The handler for what FastAPI would otherwise answer in its own way."""
    return describe(error).respond(request.scope)


class Boundary:
    """The outermost catch: whatever a route raises becomes a problem, and only what nobody foresaw a 500."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on; answer for it where that raises, unless an answer has begun."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception as error:
            if started or scope["type"] != "http":
                raise
            await describe(error).respond(scope)(scope, receive, send)


def _invalid(error: RequestValidationError) -> Problem:
    found = error.errors()
    if found[0]["type"] == "json_invalid":
        at, why = found[0]["loc"][-1], found[0]["ctx"]["error"]
        return Problem(400, f"the body is not JSON: {why} at character {at}", "malformed-body")
    if isinstance(error.body, bytes):
        return Problem(415, "send the body as JSON, with the header Content-Type: application/json", "unknown-content")
    refused = Refused(*refusals_of(found))
    return Problem(422, str(refused), "refused-value", refused.refusals)


def refusals_of(found: Iterable[Mapping[str, Any]], *, within: tuple[str | int, ...] = ()) -> list[Refusal]:
    """What pydantic found wrong, in our form; within: where in the request it looked."""
    return [Refusal(_pointer((*within, *one["loc"])), _reason(one)) for one in found]


def _reason(found: Mapping[str, Any]) -> str:
    """What pydantic found wrong; in our words where it would show a pattern."""
    if found["type"] == "string_pattern_mismatch":
        return SPELLING[found["ctx"]["pattern"]]
    return str(found["msg"]).removeprefix("Value error, ")


def _pointer(place: Iterable[str | int]) -> str:
    """A JSON pointer (RFC 6901) into the body; what is in the path or the query begins with that word."""
    where, *parts = (str(part).replace("~", "~0").replace("/", "~1") for part in place)
    inside = [part for part in parts if part != "[key]"]
    return "".join(f"/{part}" for part in (inside if where == "body" else [where, *inside]))
