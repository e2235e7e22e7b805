"""The log's port: what was shown to whom and with which values, and what came back.

Every method is atomic and raises StoreUnavailable where its backend is away.
"""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

import msgspec

from model.query import Value

FORGOTTEN_KEPT_S = 3_600.0
"""Seconds that a log knows whom it has forgotten; no process holds an impression back so long."""

INSTALL, UNINSTALL = "install", "uninstall"
"""The kinds of event that change what a user has; any other kind is only kept."""


class Shown(msgspec.Struct, frozen=True, omit_defaults=True):
    """One app of an answer. position counts from 1; features: the app's values it was scored with.

    others: how many other users had the app, as it was scored (PairStatistic.OTHERS); measures: what else of all users
    it was scored with, by `FieldSpec.measure`. A Struct, since ten are made for each answer and a frozen dataclass
    takes five times as long.
    """

    app_id: str
    position: int
    score: float
    features: Mapping[str, Value]
    others: int
    measures: Mapping[str, float] = {}


@dataclass(frozen=True)
class Impression:
    """One answer of `POST /rank` with every value that it was scored with. at: epoch seconds.

    history: app id to count, most used first, all of it as it was scored.
    """

    request_id: str
    at: float
    version: str
    user_id: str
    user: Mapping[str, Value]
    context: Mapping[str, Value]
    history: Mapping[str, int]
    items: tuple[Shown, ...]


@dataclass(frozen=True)
class Displayed:
    """What must be known of an impression to judge an event that names it."""

    request_id: str
    at: float
    user_id: str
    app_ids: frozenset[str]


@dataclass(frozen=True)
class Feedback:
    """One event as it was accepted. at: epoch seconds; dated: whether the client said when, else it is received_at."""

    id: str
    kind: str
    at: float
    received_at: float
    app_id: str
    user_id: str | None
    request_id: str | None
    dated: bool

    @property
    def digest(self) -> str:
        """What an event sent again must have in common with the first: all that the client said."""
        said = (self.kind, self.app_id, self.user_id, self.request_id, self.at if self.dated else None)
        return hashlib.sha256(msgspec.json.encode(said)).hexdigest()[:32]


class Taken(StrEnum):
    """What became of one event: kept, or its id was kept before, with the same or with another digest."""

    NEW = "new"
    SAME = "same"
    OTHER = "other"


@dataclass(frozen=True)
class LogCounts:
    """How many rows the log holds."""

    impressions: int
    feedback: int


class EventLog(Protocol):
    """Impressions by request id, feedback by event id."""

    def show(self, impressions: Iterable[Impression]) -> int:
        """Keep impressions, all or none; how many were new. A request id that is kept already stays as it was.

        One of a user who was forgotten since it was made, as some process held it back meanwhile, is not kept.
        """

    def displayed(self, request_ids: Iterable[str]) -> Mapping[str, Displayed]:
        """What was shown under these request ids, those that are known, in one round trip."""

    def take(self, feedback: Sequence[Feedback]) -> tuple[Taken, ...]:
        """Keep events, all or none, safe from any process's death when this returns; what became of each, in order."""

    def claim(self, consumer: str, *, count: int, idle_s: float) -> tuple[Feedback, ...]:
        """Up to `count` events that nobody has settled, oldest first, handed to one consumer at a time.

        What a consumer claimed and has not settled after `idle_s` is handed to the next who asks.
        """

    def settle(self, ids: Iterable[str]) -> None:
        """Say that these claimed events have been dealt with; they are never handed out again."""

    def impressions(self, since: float, until: float) -> Iterator[Impression]:
        """The impressions with since <= at < until, oldest first, read a page at a time."""

    def feedback(self, since: float, until: float) -> Iterator[Feedback]:
        """The events with since <= at < until, in order of `at`, ties by id, read a page at a time."""

    def forget_user(self, user_id: str) -> int:
        """Remove every impression and event of a user; how many rows went."""

    def trim(self, *, before: float, keep: LogCounts) -> int:
        """Remove what is older than `before` by `at`, and of each kind what is past the newest `keep`; how many."""

    def counts(self) -> LogCounts:
        """How much there is."""
