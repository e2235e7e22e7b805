"""The life of a ranking in one screen: fetch, admit, select, score, order."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from model.query import Query, Value
from model.schema import FeatureSchema, Source
from service.admission import Refusal, Refused, fitting, misfits, settable, strangers
from service.catalogue import Selection
from service.engine import Engine, Live
from service.errors import StoreUnavailable
from service.store.ports import FeatureStore, UserRecord

FEATURE_STORE = "feature_store"
COUNTRY = "country"
NOTHING = np.empty(0)

NoticeCode = Literal["unknown_user", "unknown_app", "unavailable", "duplicate"]


@dataclass(frozen=True)
class RankQuery:
    """What is asked, before the live schema has seen it. features and history override the store's.

    history: app id to count, most used first; None to take the store's.
    """

    user_id: str
    features: Mapping[str, Value] = field(default_factory=dict)
    history: Mapping[str, int] | None = None
    context: Mapping[str, Value] = field(default_factory=dict)
    candidates: Sequence[str] | None = None
    exclude: frozenset[str] = frozenset()
    k: int = 10


@dataclass(frozen=True)
class Ranked:
    """One app of an answer and its probability."""

    app_id: str
    score: float


@dataclass(frozen=True)
class Notice:
    """Something about the query that changed the answer, and the app that it was about, if one."""

    code: NoticeCode
    app_id: str | None = None


@dataclass(frozen=True)
class Ranking:
    """The answer. degraded: names of what was missing and stood in for by defaults; took_ms: of the ranking alone."""

    version: str
    items: tuple[Ranked, ...]
    degraded: tuple[str, ...]
    notices: tuple[Notice, ...]
    took_ms: float


class Meter(Protocol):
    """Where a ranking is counted."""

    def ranked(self, *, count: int, statuses: Mapping[str, str], degraded: Iterable[str]) -> None:
        """Count the candidates scored, the odd values of the query by field, and what was missing."""


@dataclass(frozen=True)
class Fetched:
    """A user as the store has them; None where it does not know them or did not answer."""

    record: UserRecord | None
    answered: bool


class Ranker:
    """Ranks with the live version, or with any other that was prepared."""

    def __init__(self, users: FeatureStore, engine: Engine, *, meter: Meter, clock: Callable[[], float]) -> None:
        self._users = users
        self._engine = engine
        self._meter = meter
        self._clock = clock

    def rank(self, query: RankQuery) -> Ranking:
        """Rank with the live version. Raises NoLiveVersion, and Refused where the query does not fit its schema."""
        return self.rank_with(self._engine.live(), query)

    def rank_with(self, version: Live, query: RankQuery) -> Ranking:
        """Rank with this version. Raises Refused where the query does not fit its schema."""
        started = self._clock()
        scorer, shelf = version.scorer, version.shelf
        fetched = self._fetch(query.user_id)
        asked = admit(query, scorer.schema, fetched=fetched)
        country = _country(query, fetched)
        selection = shelf.select(query.candidates, country=country, without=_left_out(query, asked))
        scores = scorer.score(asked, shelf.table, selection.rows) if len(selection.rows) else NOTHING
        items = best(scores, selection.rows, ids=shelf.table.ids, k=query.k)
        degraded = () if fetched.answered else (FEATURE_STORE,)
        self._meter.ranked(count=len(scores), statuses=scorer.observe(asked), degraded=degraded)
        took_ms = (self._clock() - started) * 1000
        return Ranking(version.version, items, degraded, _notices(fetched, selection), took_ms)

    def _fetch(self, user_id: str) -> Fetched:
        try:
            return Fetched(self._users.get_user(user_id), answered=True)
        except StoreUnavailable:
            return Fetched(None, answered=False)


def admit(query: RankQuery, schema: FeatureSchema, *, fetched: Fetched) -> Query:
    """The query as the scorer takes it: the request's values over the store's, each fit for its field.

    Raises Refused naming every value sent that does not fit, every unknown field and every required one not there.
    """
    user_fields, context_fields = settable(schema, Source.USER), settable(schema, Source.CONTEXT)
    stored = fitting(fetched.record.features, user_fields) if fetched.record else {}
    user = stored | dict(query.features)
    refusals = [
        *strangers(query.features, user_fields, retired=schema.retired, at="/user/features"),
        *strangers(query.context, context_fields, retired=schema.retired, at="/context"),
        *misfits(query.features, user_fields, at="/user/features"),
        *misfits(query.context, context_fields, at="/context"),
    ]
    missing = [
        f"/context/{name}" for name, spec in context_fields.items() if spec.required and name not in query.context
    ]
    if fetched.answered:
        missing += [
            f"/user/features/{name}" for name, spec in user_fields.items() if spec.required and name not in user
        ]
    refusals += [Refusal(pointer, "this field is required and neither sent nor stored") for pointer in missing]
    if refusals:
        raise Refused(*refusals)
    history = query.history if query.history is not None else fetched.record.history if fetched.record else {}
    return Query(query.user_id, user, query.context, history)


def best(
    scores: npt.NDArray[np.float64], rows: npt.NDArray[np.int64], *, ids: Sequence[str], k: int
) -> tuple[Ranked, ...]:
    """The k highest of N scores, highest first, ties by app id, so that equal input gives equal output."""
    chosen: npt.NDArray[np.int64] = np.arange(len(scores))
    if len(scores) > k:
        threshold = np.partition(scores, len(scores) - k)[len(scores) - k]
        chosen = np.flatnonzero(scores >= threshold)  # every app tied with the k-th: the id decides among them
    ranked = [Ranked(ids[rows[place]], float(scores[place])) for place in chosen]
    return tuple(sorted(ranked, key=lambda item: (-item.score, item.app_id))[:k])


def _country(query: RankQuery, fetched: Fetched) -> str | None:
    """Where the user is: what the request says, else what the store says, whether or not the network reads it."""
    stored = fetched.record.features if fetched.record else {}
    named = (source.get(COUNTRY) for source in (query.context, query.features, stored))
    return next((country for country in named if isinstance(country, str)), None)


def _left_out(query: RankQuery, asked: Query) -> frozenset[str]:
    """What may not be in the answer: candidates that were given are not held back for being installed."""
    return query.exclude if query.candidates is not None else query.exclude | asked.history.keys()


def _notices(fetched: Fetched, selection: Selection) -> tuple[Notice, ...]:
    nobody = [Notice("unknown_user")] if fetched.answered and fetched.record is None else []
    of_apps: dict[NoticeCode, tuple[str, ...]] = {
        "unknown_app": selection.unknown,
        "unavailable": selection.unavailable,
        "duplicate": selection.doubled,
    }
    return (*nobody, *(Notice(code, app_id) for code, app_ids in of_apps.items() for app_id in app_ids))
