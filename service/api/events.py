"""`POST /events`: what users did with what they were shown."""

from functools import partial

import msgspec
from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.responses import Response

from service.api.event_messages import EventsAnswer, EventsRequest, TooManyEvents, read_event, result_of
from service.feedback import Intake, Outcome, Sent
from service.telemetry import Metrics

AT_ONCE = 2


def event_routes(intake: Intake, *, limit: int, metrics: Metrics) -> APIRouter:
    """Batches are read and kept in their own few threads, so that they never take those of rankings."""
    router = APIRouter(tags=["events"])
    limiter = CapacityLimiter(AT_ONCE)

    @router.post("/events", response_model=EventsAnswer, response_model_exclude_none=True)
    async def post_events(body: EventsRequest) -> Response:
        """Keep these events and say of each what became of it; when this answers, those kept survive any crash."""
        if len(body.events) > limit:
            raise TooManyEvents(len(body.events), limit=limit)
        content = await to_thread.run_sync(partial(_answer, intake, body.events, metrics=metrics), limiter=limiter)
        return Response(content, media_type="application/json")

    return router


def _answer(intake: Intake, events: list[object], *, metrics: Metrics) -> bytes:
    """The body of the answer; writing it here keeps the event loop free for rankings."""
    outcomes = _judged(intake, [read_event(raw) for raw in events])
    metrics.events_judged(str(one.status) for one in outcomes)
    results = [result_of(raw, outcome) for raw, outcome in zip(events, outcomes, strict=True)]
    return msgspec.json.encode({"results": results})


def _judged(intake: Intake, read: list[Sent | Outcome]) -> list[Outcome]:
    """What becomes of each event, those that could not be read among them. Raises StoreUnavailable."""
    taken = iter(intake.take([one for one in read if isinstance(one, Sent)]))
    return [next(taken) if isinstance(one, Sent) else one for one in read]
