"""Raw values against the schema: what a request or a record may carry, and what the store's values are good for."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from model.query import Value, ValueRefused
from model.schema import FeatureSchema, FieldSpec, Source
from model.scorer import CANONICAL
from service.engine import Engine
from service.errors import NoLiveVersion

ID_FIELDS = {Source.USER: "user_id", Source.APP: "app_id"}
TOLD = 3  # refusals that fit into one sentence


@dataclass(frozen=True)
class Refusal:
    """One thing wrong with a body: where, as a JSON pointer, and why."""

    pointer: str
    detail: str


class Refused(ValueError):
    """What was sent does not fit the live schema or the bounds; every refusal is listed."""

    def __init__(self, *refusals: Refusal) -> None:
        told = "; ".join(f"{one.pointer}: {one.detail}" for one in refusals[:TOLD])
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
    refusals = [one for place, record in places for one in misfits(record, fields, at=f"{at}/{place}/features")]
    if refusals:
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
