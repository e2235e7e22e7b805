"""A request's values as codes that are cheap to compare and keep, and codes as the side that a net reads."""

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

from model.batch import Bag, Side
from model.query import Query, Value, categorical, continuous, multi
from model.schema import FieldSpec, Kind, Source
from model.transforms import REQUEST_SOURCES, Transform
from model.vocabulary import MISSING_ID, NULL_ID, UNKNOWN_ID

STATUS = {UNKNOWN_ID: "unknown", MISSING_ID: "missing", NULL_ID: "null"}

Code = int | tuple[int, ...] | None
"""An id; the ids of a multi-valued field; or a number's quantile, None where there is no number."""


@dataclass(frozen=True, eq=False)
class RequestField:
    """One field of a request. place: among the request's fields of its kind."""

    spec: FieldSpec
    place: int
    index: Mapping[str | None, int] = field(default_factory=dict, repr=False)
    boundaries: Sequence[float] = ()

    def code(self, values: Mapping[str, Value]) -> Code:
        """The code of this field's value. Raises ValueRefused where it does not fit the field."""
        name, kind = self.spec.name, self.spec.kind
        if kind is Kind.CATEGORICAL:
            return self.index.get(categorical(values[name]), UNKNOWN_ID) if name in values else MISSING_ID
        value = values.get(name)
        if kind is Kind.CONTINUOUS:
            return None if value is None else bisect_left(self.boundaries, continuous(value))
        texts = multi(value)
        return (MISSING_ID,) if texts is None else tuple(self._ids(texts[: self.spec.max_values]))

    def status(self, code: Code, values: Mapping[str, Value]) -> str | None:
        """What is odd about the value: it is unknown, missing or null; None for any other."""
        if self.spec.kind is Kind.CATEGORICAL:
            return STATUS.get(code)  # type: ignore[arg-type]  # the code of a categorical value is an id
        if self.spec.kind is Kind.CONTINUOUS and code is None:
            return "null" if self.spec.name in values else "missing"
        return None

    def number(self, code: Code) -> float:
        """The normalised value in [0, 1] of a continuous field's code."""
        return code / max(len(self.boundaries), 1) if isinstance(code, int) else 0.5

    def ids(self, code: Code) -> Sequence[int]:
        """The ids of any other field's code."""
        return code if isinstance(code, tuple) else [code] if isinstance(code, int) else []

    def _ids(self, texts: Iterable[str]) -> Iterable[int]:
        return (self.index.get(text, UNKNOWN_ID) for text in texts)


def request_fields(transform: Transform) -> tuple[RequestField, ...]:
    """Every field of a request, in the schema's order within each kind."""
    found = []
    for kind in Kind:
        for place, spec in enumerate(transform.schema.of(*REQUEST_SOURCES, kind=kind)):
            if kind is Kind.CONTINUOUS:
                found.append(RequestField(spec, place, boundaries=transform.quantiles[spec.name].boundaries))
            else:
                found.append(RequestField(spec, place, transform.vocabularies[spec.name].index))
    return tuple(found)


def raw_values(query: Query, fields: Iterable[RequestField]) -> dict[str, Value]:
    """The values of a query by field name, its history as the field that holds it."""
    values: dict[str, Value] = {**query.user, **query.context, "user_id": query.user_id}
    for one in fields:
        if one.spec.source is Source.HISTORY:
            values[one.spec.name] = list(query.history)[: one.spec.max_values]
    return values


def side_of(codes: Mapping[RequestField, Code], crosses: tuple[Bag, ...]) -> Side:
    """A request's side, one row, from a code for every field; `crosses`: rows of those wholly on this side."""
    kinds = {kind: [(one, codes[one]) for one in codes if one.spec.kind is kind] for kind in Kind}
    ids = [one.ids(code) for one, code in kinds[Kind.CATEGORICAL]]
    dense = np.array([[one.number(code) for one, code in kinds[Kind.CONTINUOUS]]], dtype=np.float32)
    bags = [torch.tensor(one.ids(code), dtype=torch.int64) for one, code in kinds[Kind.MULTI]]
    start = torch.zeros(1, dtype=torch.int64)
    return Side(
        torch.tensor(ids, dtype=torch.int64).view(1, -1),
        torch.from_numpy(dense).view(1, -1),
        tuple(Bag(bag, start) for bag in bags),
        crosses,
    )
