"""Raw values against the schema: what a request or a record may carry, and what the store's values are good for."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from math import inf
from typing import TYPE_CHECKING

from model.query import MAX_TEXT_LENGTH, Query, Value, ValueRefused
from model.schema import FeatureSchema, FieldSpec, Kind, Source
from model.scorer import CANONICAL
from service.engine import Engine
from service.errors import NoLiveVersion

if TYPE_CHECKING:
    from service.fetching import Fetched
    from service.ranker import RankQuery

ID_FIELDS = {Source.USER: "user_id", Source.APP: "app_id"}
TOLD = 3  # refusals that fit into one sentence
ENOUGH = 1_000  # refusals after which no others are looked for
PLAIN_INT = 2**53


@dataclass(frozen=True)
class Refusal:
    """One thing wrong with a body: where, as a JSON pointer, and why."""

    pointer: str
    detail: str


class Refused(ValueError):
    """What was sent does not fit the live schema or the bounds; every refusal is listed."""

    def __init__(self, *refusals: Refusal) -> None:
        told = "; ".join(f"{one.pointer or 'the body'}: {one.detail}" for one in refusals[:TOLD])
        super().__init__(told if len(refusals) <= TOLD else f"{told}; and {len(refusals) - TOLD} more")
        self.refusals = refusals


def settable(schema: FeatureSchema, source: Source) -> dict[str, FieldSpec]:
    """The fields of one source that a client may send; an id is sent as `id`, never as a feature."""
    fields = schema.from_source(source)
    fields.pop(ID_FIELDS.get(source, ""), None)
    return fields


def live_fields(engine: Engine, source: Source) -> dict[str, FieldSpec]:
    """The settable fields of one source in the live schema; none before the first version."""
    try:
        return settable(engine.live().scorer.schema, source)
    except NoLiveVersion:
        return {}


def check_batch(batch: Iterable[Mapping[str, Value]], fields: Mapping[str, FieldSpec], *, at: str) -> None:
    """Raise Refused where a record's value does not fit its field; a field not known here may be a later schema's."""
    places = enumerate(batch)
    found = (one for place, record in places for one in misfits(record, fields, at=f"{at}/{place}/features"))
    if refusals := list(islice(found, ENOUGH)):
        raise Refused(*refusals)


def misfits(features: Mapping[str, Value], fields: Mapping[str, FieldSpec], *, at: str) -> Iterator[Refusal]:
    """A refusal for each value that does not fit its field; values of no known field are left alone."""
    for name, value in features.items():
        if name in fields and (reason := misfit(value, fields[name])):
            yield Refusal(f"{at}/{name}", reason)


def misfit(value: Value, field: FieldSpec) -> str | None:
    """Why this value does not fit this field; None where it does."""
    try:
        CANONICAL[field.kind](value)
    except ValueRefused as error:
        return f"{error} (field {field.name!r} is {field.kind})"
    return None


def fitting(features: Mapping[str, Value], fields: Mapping[str, FieldSpec]) -> dict[str, Value]:
    """What of a stored record this schema can encode: the values of known fields that fit them."""
    return {name: value for name, value in features.items() if name in fields and misfit(value, fields[name]) is None}


def strangers(
    features: Mapping[str, Value], fields: Mapping[str, FieldSpec], *, retired: tuple[str, ...], at: str
) -> Iterator[Refusal]:
    """A refusal for each name that the schema neither declares nor has retired."""
    for name in features:
        if name not in fields and name not in retired:
            known = ", ".join(sorted(fields)) or "none"
            yield Refusal(f"{at}/{name}", f"no such field; there are: {known}")


def _is_plain_text(value: Value) -> bool:
    if type(value) is str:
        return value.isprintable() and len(value) <= MAX_TEXT_LENGTH
    return value is None


def _is_plain_number(value: Value) -> bool:
    if type(value) is float:
        return -inf < value < inf
    return value is None or (type(value) is int and -PLAIN_INT < value < PLAIN_INT)


def _is_plain_list(value: Value) -> bool:
    return value is None or (type(value) is list and all(type(item) is str and _is_plain_text(item) for item in value))


PLAIN: Mapping[Kind, Callable[[Value], bool]] = {
    Kind.CATEGORICAL: _is_plain_text,
    Kind.CONTINUOUS: _is_plain_number,
    Kind.MULTI: _is_plain_list,
}
"""True of nearly every value that is sent and fits a field of the kind, at a tenth of what CANONICAL costs; of what it
is not true of, CANONICAL judges."""


class Entrance:
    """The settable fields of one source, made ready to look over a request's values in one pass.

    at: where the values stand in a request, as a JSON pointer.
    """

    def __init__(self, schema: FeatureSchema, source: Source, *, at: str) -> None:
        self._fields = settable(schema, source)
        self._required = tuple(name for name, field in self._fields.items() if field.required)
        self._retired = schema.retired
        self._at = at
        self._plain = {name: PLAIN[field.kind] for name, field in self._fields.items()}

    def refusals(self, values: Mapping[str, Value]) -> list[Refusal]:
        """What is wrong with a request's values: the names that there are no fields of, then what does not fit."""
        if self._passes(values):
            return []
        unknown = strangers(values, self._fields, retired=self._retired, at=self._at)
        return list(islice(chain(unknown, misfits(values, self._fields, at=self._at)), ENOUGH))

    def fitting(self, stored: Mapping[str, Value]) -> Mapping[str, Value]:
        """What of a stored record this schema can encode."""
        return stored if self._passes(stored) else fitting(stored, self._fields)

    def missing(self, values: Mapping[str, Value]) -> list[Refusal]:
        """A refusal for each required field that is not among the values."""
        return [
            Refusal(f"{self._at}/{name}", "this field is required and neither sent nor stored")
            for name in self._required
            if name not in values
        ]

    def _passes(self, values: Mapping[str, Value]) -> bool:
        """True where each value is plainly one of its field."""
        plain = self._plain.get
        for name, value in values.items():
            is_plain = plain(name)
            if is_plain is None or not is_plain(value):
                return False
        return True


class Admission:
    """What one schema admits of a query and of what the store says of its user."""

    def __init__(self, schema: FeatureSchema) -> None:
        self._user = Entrance(schema, Source.USER, at="/user/features")
        self._context = Entrance(schema, Source.CONTEXT, at="/context")

    def admit(self, query: "RankQuery", fetched: "Fetched") -> Query:
        """The query as the scorer takes it: the request's values over the store's, each fit for its field.

        Raises Refused naming every value sent that does not fit, every unknown field and every required one not there.
        """
        record = fetched.record
        stored = self._user.fitting(record.features) if record else {}
        user = {**stored, **query.features} if query.features else stored
        refusals = [*self._user.refusals(query.features), *self._context.refusals(query.context)]
        refusals += self._context.missing(query.context)
        if fetched.answered:
            refusals += self._user.missing(user)
        if refusals:
            raise Refused(*refusals)
        history = query.history if query.history is not None else record.history if record else {}
        return Query(query.user_id, user, query.context, history)
