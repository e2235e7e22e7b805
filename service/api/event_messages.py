"""The wire of `POST /events`: a batch in which each event is judged by itself."""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AwareDatetime, Field, PlainValidator, StringConstraints, ValidationError

from service.api.messages import NAME_PATTERN, SPELLING, Id, Message, as_it_came
from service.feedback import Outcome, Sent, Status

KIND = "a kind has lower case letters, digits and _ and begins with a letter"


class TooManyEvents(ValueError):
    """A request sends more events than are allowed."""

    def __init__(self, count: int, *, limit: int) -> None:
        super().__init__(f"{count} events where at most {limit} are allowed; send them in several requests")


def moment(value: object) -> float:
    """Epoch seconds of a time as JSON carries it. Raises ValueError for anything but ISO 8601 with a zone."""
    refusal = "a time is a text in ISO 8601 with its zone, such as 2026-11-20T19:48:46Z"
    if not isinstance(value, str):
        raise ValueError(refusal)
    try:
        read = datetime.fromisoformat(value)
    except ValueError:
        raise ValueError(refusal) from None
    if read.tzinfo is None:
        raise ValueError(refusal)
    return read.timestamp()


class EventMessage(Message):
    """Something that a user did with an app: `install`, `uninstall`, `click`, or a kind of your own.

    `request_id` is the id of the answer that showed the app; without it the event only tells of its user's history.
    `at` is now where it is left out. An id is for one event: sent again it counts once.
    """

    id: Id
    kind: Annotated[str, StringConstraints(pattern=NAME_PATTERN)]
    app_id: Id
    user_id: Id | None = None
    request_id: Id | None = None
    at: Annotated[float, PlainValidator(moment, json_schema_input_type=AwareDatetime)] | None = None


UnreadEvent = Annotated[Any, PlainValidator(as_it_came, json_schema_input_type=EventMessage)]


class EventsRequest(Message):
    """`POST /events`. The events are read one by one, so that a bad one does not cost the others."""

    events: Annotated[list[UnreadEvent], Field(min_length=1)]


class EventResult(Message):
    """What became of one event; its id is null where none could be read. A reason comes with a rejection."""

    id: str | None
    status: Status
    reason: str | None = None


class EventsAnswer(Message):
    """A result for each event, in the order in which they were sent."""

    results: list[EventResult]


def read_event(raw: object) -> Sent | Outcome:
    """One event as it came, or why it is rejected."""
    try:
        read = EventMessage.model_validate(raw)
    except ValidationError as error:
        return Outcome(Status.REJECTED, _reason(error))
    return Sent(read.id, read.kind, read.app_id, read.user_id, read.request_id, read.at)


def result_of(raw: object, outcome: Outcome) -> dict[str, str | None]:
    """The wire's form of an outcome, under the id that was sent, if one can be told."""
    sent = raw.get("id") if isinstance(raw, Mapping) else None
    told = sent if isinstance(sent, str) and not any("\ud800" <= letter <= "\udfff" for letter in sent) else None
    result = {"id": told, "status": str(outcome.status)}
    return result | {"reason": outcome.reason} if outcome.reason else result


def _reason(error: ValidationError) -> str:
    """The first thing wrong with an event, in our words where pydantic would show a pattern."""
    found = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in found["loc"])
    why = str(found["msg"]).removeprefix("Value error, ")
    if found["type"] in ("model_type", "model_attributes_type"):
        why = "an event is a JSON object"
    if found["type"] == "string_pattern_mismatch":
        why = KIND if place == "kind" else SPELLING[found["ctx"]["pattern"]]
    return f"{place}: {why}" if place else why
