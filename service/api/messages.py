"""The wire: every body that is read or written, as frozen models that refuse what they do not know."""

from collections.abc import Iterable, Mapping
from itertools import islice
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    StringConstraints,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from model.manifest import VERSION
from model.query import MAX_TEXT_LENGTH, Value, ValueRefused, categorical, continuous
from service.ranker import NoticeCode

WHOLE_NUMBER_LIMIT = 2**63

ID_PATTERN = r"^[^\x00-\x1f\x7f]+$"
NAME_PATTERN = r"^[a-z][a-z0-9_]{0,63}$"
VERSION_PATTERN = f"^{VERSION.pattern}$"
SPELLING = {
    ID_PATTERN: "an id may hold no control character",
    VERSION_PATTERN: "a version looks like 20261120T194846Z-1a2b3c; GET /admin/versions lists them",
    NAME_PATTERN: "a field's name has lower case letters, digits and _ and begins with a letter",
}
"""What each pattern asks for, in words."""

Id = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT_LENGTH, pattern=ID_PATTERN)]
FieldName = Annotated[str, StringConstraints(pattern=NAME_PATTERN)]


def raw_value(value: object) -> Value:
    """A feature's value as JSON may carry it. Raises ValueRefused, saying what was seen and what is allowed."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, int) and -WHOLE_NUMBER_LIMIT <= value < WHOLE_NUMBER_LIMIT:
        return value
    if isinstance(value, float):
        return continuous(value)
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return [_text(item) for item in value]
    raise ValueRefused(
        "a value is a text, a finite number, a whole number of 64 bits, true, false, null or texts in a list"
    )


def _text(value: str) -> str:
    if any("\ud800" <= letter <= "\udfff" for letter in value):
        raise ValueRefused("half of a surrogate pair in a text")
    return categorical(value)


RawValue = Annotated[Any, PlainValidator(raw_value, json_schema_input_type=str | int | float | bool | list[str] | None)]
Count = Annotated[int, Field(ge=1, lt=WHOLE_NUMBER_LIMIT)]

PART = 1_000
"""Entries that are looked over together: where one is wrong none after them is, since pydantic would list them all.

A body of 4 MB has room for two million wrong ones, and to list these takes half a minute and gigabytes.
"""


def in_parts(value: object, read: ValidatorFunctionWrapHandler) -> object:
    """What `read` makes of a list or an object, PART entries at a time. Raises ValidationError for the first wrong."""
    if not isinstance(value, list | dict) or len(value) <= PART:
        return read(value)
    if isinstance(value, dict):
        entries, whole = iter(value.items()), dict[object, object]()
        while part := dict(islice(entries, PART)):
            whole |= read(part)
        return whole
    items: list[object] = []
    for end in range(PART, len(value) + PART, PART):
        try:
            items += read(value[end - PART : end])
        except ValidationError:
            return read(value[:end])  # which counts the places of what is wrong from the first
    return items


InParts = WrapValidator(in_parts)
Ids = Annotated[list[Id], InParts]
Features = Annotated[dict[FieldName, RawValue], InParts]
Uses = Annotated[dict[Id, Count], InParts]


class Message(BaseModel):
    """What every body has in common: no unknown member, no coercion, no change after it was read."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    @model_validator(mode="before")
    @classmethod
    def _has_no_heap_of_members(cls, value: object) -> object:
        if isinstance(value, dict) and len(value) > PART:
            raise ValueError(
                f"{len(value)} members where there are {', '.join(cls.model_fields)}; leave out the others"
            )
        return value


class RankUser(Message):
    """Who asks. What is given here overrides the store for this one request."""

    id: Id
    features: Features = Field(default_factory=dict)
    installed: Ids | None = None
    uses: Uses | None = None


class RankRequest(Message):
    """`POST /rank`. Without candidates the whole catalogue less what is installed is ranked."""

    user: RankUser
    context: Features = Field(default_factory=dict)
    candidates: Annotated[list[Id], Field(min_length=1), InParts] | None = None
    k: Annotated[int, Field(ge=1)] = 10
    exclude: Ids = Field(default_factory=list)
    explain: Literal[False] = False


class RankedItem(Message):
    """One app of the answer; ranks count from 1."""

    rank: int
    app_id: str
    score: float


class NoticeMessage(Message):
    """Something about the request that changed the answer and was no reason to refuse it."""

    code: NoticeCode
    app_id: str | None = None


class RankAnswer(Message):
    """The answer of `POST /rank`; took_ms counts from the request's arrival, its wait for its turn included."""

    request_id: str
    version: str
    items: list[RankedItem]
    degraded: list[str]
    warnings: list[NoticeMessage]
    took_ms: float


class UserMessage(Message):
    """One user as stored; `uses` counts how often an installed app was used, 1 where it is not told."""

    id: Id
    features: Features = Field(default_factory=dict)
    installed: Ids = Field(default_factory=list)
    uses: Uses = Field(default_factory=dict)


def as_it_came(value: object) -> object:
    """For what is read later, one by one and in another thread than the rankings'."""
    return value


UnreadUser = Annotated[Any, PlainValidator(as_it_came, json_schema_input_type=UserMessage)]


class UsersMessage(Message):
    """`PUT /users`."""

    users: Annotated[list[UnreadUser], Field(min_length=1)]


class AppMessage(Message):
    """One app of the catalogue; an empty list of countries means everywhere."""

    id: Id
    features: Features = Field(default_factory=dict)
    available: bool = True
    countries: Ids = Field(default_factory=list)


UnreadApp = Annotated[Any, PlainValidator(as_it_came, json_schema_input_type=AppMessage)]


class AppsMessage(Message):
    """`PUT /apps`."""

    apps: Annotated[list[UnreadApp], Field(min_length=1)]


class Stored(Message):
    """How many records a batch stored; an id given twice counts once, its last record."""

    stored: int


class Alive(Message):
    """The answer of a probe that is content."""

    status: Literal["alive", "ready"]


class VersionAnswer(Message):
    """`GET /version`; live, and the precision that it answers in here (exact or fast), are null before the first."""

    software: str
    live: str | None
    precision: str | None


class RefusalMessage(Message):
    """One value that was refused: a JSON pointer into the body (or `/path/...`, `/query/...`), and why."""

    pointer: str
    detail: str


class ProblemMessage(Message):
    """An error, as RFC 9457 has it; `report` comes with a refusal by the gate."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str | None
    errors: list[RefusalMessage]
    report: dict[str, Any] | None = None


def history_of(installed: Iterable[str], uses: Mapping[str, int]) -> dict[str, int]:
    """App id to count, most used first, ties by id as in training: every app installed or used, once if not told."""
    counts = dict.fromkeys(installed, 1) | dict(uses)
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
