"""The life of a ranking in one screen: fetch, admit, select, score, order, record."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from model.query import Query, Value
from model.schema import FeatureSchema, Source
from model.scorer import Scorer
from service.admission import Refusal, Refused, fitting, misfits, settable, strangers
from service.catalogue import Selection
from service.engine import Engine, Live
from service.fetching import Fetched
from service.impressions import POPULARITY, Scored, impression_of
from service.store.log_ports import Impression

SCORER = "scorer"
COUNTRY = "country"

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
    """The answer. degraded: names of what was missing and stood in for; took_ms: of the ranking alone."""

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
class RankerParts:
    """What a ranker works with beside the users and the engine.

    clock: monotonic seconds; now: epoch seconds; budget_s: what may have passed before scoring begins; record: takes
    the impression of every answer that was shown, at once and without raising.
    """

    meter: Meter
    clock: Callable[[], float]
    now: Callable[[], float]
    budget_s: float
    record: Callable[[Impression], None]


class Ranker:
    """Ranks with the live version, or with any other that was prepared."""

    def __init__(self, fetch: Callable[[str], Fetched], engine: Engine, *, parts: RankerParts) -> None:
        self._fetch = fetch
        self._engine = engine
        self._parts = parts

    def rank(self, query: RankQuery, *, request_id: str) -> Ranking:
        """Rank with the live version and record what is shown under this id.

        Raises NoLiveVersion, and Refused where the query does not fit its schema.
        """
        ranking, scored = self._rank(self._engine.live(), query)
        if scored.items:
            self._parts.record(impression_of(scored, request_id=request_id, at=self._parts.now()))
        return ranking

    def rank_with(self, version: Live, query: RankQuery) -> Ranking:
        """Rank with this version; nobody is shown it. Raises Refused where the query does not fit its schema."""
        return self._rank(version, query)[0]

    def _rank(self, version: Live, query: RankQuery) -> tuple[Ranking, Scored]:
        started = self._parts.clock()
        scorer = version.scorer
        fetched = self._fetch(query.user_id)
        asked = admit(query, scorer.schema, fetched=fetched)
        country = _country(query, fetched)
        selection = version.shelf.select(query.candidates, country=country, without=_left_out(query, asked))
        late = self._parts.clock() - started >= self._parts.budget_s
        scores = popularity_of(selection, version.popularity) if late else _scores(scorer, asked, selection)
        items = best(scores, selection.rows, ids=selection.table.ids, k=query.k)
        degraded = (*fetched.missing, SCORER) if late else fetched.missing
        self._parts.meter.ranked(count=len(scores), statuses=scorer.observe(asked), degraded=degraded)
        took_ms = (self._parts.clock() - started) * 1000
        ranking = Ranking(version.version, items, degraded, _notices(fetched, selection), took_ms)
        return ranking, Scored(version, POPULARITY if late else version.version, asked, selection, items)


def popularity_of(selection: Selection, popularity: Mapping[str, int]) -> npt.NDArray[np.float64]:
    """(N,) each app's share of all that was taken in training: an order for when there is no time to score."""
    counts = [popularity.get(selection.table.ids[row], 0) for row in selection.rows.tolist()]
    return np.array(counts, dtype=np.float64) / max(1, sum(popularity.values()))


def _scores(scorer: Scorer, asked: Query, selection: Selection) -> npt.NDArray[np.float64]:
    return scorer.score(asked, selection.table, selection.rows)


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
