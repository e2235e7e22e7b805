"""The wire of `POST /rank` at its quickest: a plainly right body read, and the answer written, by msgspec.

What RankRequest and RankAnswer say is the contract. A body read here is one that RankRequest takes, with the same
values; a body that is not may be either, and RankRequest tells.
"""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from model.query import MAX_TEXT_LENGTH, Value
from service.api.messages import NAME_PATTERN, WHOLE_NUMBER_LIMIT
from service.ranker import Ranking

NAMES_KEPT = 10_000
ODD_LETTER = re.compile("[\x00-\x1f\x7f]")

Id = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT_LENGTH)]
Text = Annotated[str, Meta(max_length=MAX_TEXT_LENGTH)]
Whole = Annotated[int, Meta(ge=-WHOLE_NUMBER_LIMIT, le=WHOLE_NUMBER_LIMIT - 1)]
Count = Annotated[int, Meta(ge=1, le=WHOLE_NUMBER_LIMIT - 1)]
Features = dict[str, Text | Whole | float | bool | list[Text] | None]


class UserBody(Struct, frozen=True, forbid_unknown_fields=True):
    """RankUser, but for the spelling of names and texts."""

    id: Id
    features: Features = {}
    installed: list[Id] | None = None
    uses: dict[Id, Count] | None = None


class RankBody(Struct, frozen=True, forbid_unknown_fields=True):
    """RankRequest, but for the spelling of names and texts."""

    user: UserBody
    context: Features = {}
    candidates: Annotated[list[Id], Meta(min_length=1)] | None = None
    k: Annotated[int, Meta(ge=1)] = 10
    exclude: list[Id] = []
    explain: bool | int | float = False  # RankRequest takes a zero for false


class RankReader:
    """Reads bodies. It remembers which names of fields were well spelled, at most NAMES_KEPT of them."""

    def __init__(self) -> None:
        self._decode = msgspec.json.Decoder(RankBody).decode
        self._spelling = re.compile(NAME_PATTERN)
        self._names: set[str] = set()

    def __call__(self, body: bytes) -> RankBody | None:
        """What a body asks; None where that is for RankRequest to say."""
        try:
            asked = self._decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if asked.explain or not (self._well_spelled(asked.context) and self._well_spelled(asked.user.features)):
            return None
        # JSON has control characters only behind a backslash, but for this one
        if b"\\" not in body and b"\x7f" not in body:
            return asked
        return None if ODD_LETTER.search("".join(_texts(asked))) else asked

    def _well_spelled(self, names: Collection[str]) -> bool:
        if self._names.issuperset(names):
            return True
        if not all(self._spelling.fullmatch(name) for name in names):
            return False
        if len(self._names) + len(names) <= NAMES_KEPT:
            self._names.update(names)
        return True


def _texts(asked: RankBody) -> Iterator[str]:
    """Every text of a body but the names of its fields."""
    user = asked.user
    yield user.id
    for ids in (user.installed or (), user.uses or (), asked.candidates or (), asked.exclude):
        yield from ids
    yield from _values(user.features)
    yield from _values(asked.context)


def _values(features: Mapping[str, Value]) -> Iterator[str]:
    for value in features.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from value


class Item(Struct, frozen=True):
    """RankedItem."""

    rank: int
    app_id: str
    score: float


class Told(Struct, frozen=True, omit_defaults=True):
    """NoticeMessage, without the app where it is about none."""

    code: str
    app_id: str | None = None


class Answer(Struct, frozen=True):
    """RankAnswer."""

    request_id: str
    version: str
    items: list[Item]
    degraded: tuple[str, ...]
    warnings: list[Told]
    took_ms: float


def written(ranking: Ranking, *, request_id: str) -> bytes:
    """The body of the answer."""
    return msgspec.json.encode(
        Answer(
            request_id,
            ranking.version,
            [Item(rank, item.app_id, item.score) for rank, item in enumerate(ranking.items, 1)],
            ranking.degraded,
            [Told(one.code, one.app_id) for one in ranking.notices],
            round(ranking.took_ms, 3),
        )
    )
