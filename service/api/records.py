"""Batches of records: each is read by itself in the thread of its call, so that a long batch holds up no ranking."""

from collections.abc import Sequence
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from service.admission import ENOUGH, Refusal, Refused
from service.api.problems import refusals_of

R = TypeVar("R", bound=BaseModel)


def read_records(kind: type[R], unread: Sequence[object], *, member: str) -> list[R]:
    """The records that stand in this member of the body. Raises Refused; past ENOUGH refusals the rest is not read."""
    read: list[R] = []
    refusals: list[Refusal] = []
    for place, raw in enumerate(unread):
        try:
            read.append(kind.model_validate(raw))
        except ValidationError as error:
            found = error.errors(include_url=False, include_input=False)
            refusals += refusals_of(found, within=("body", member, place))
            if len(refusals) >= ENOUGH:
                break
    if refusals:
        raise Refused(*refusals)
    return read
