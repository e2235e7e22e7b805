"""The life of a ranking in one screen: fetch, admit, select, score, order, record."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal, Protocol
from weakref import WeakKeyDictionary

from model.query import Query, Value
from service.admission import Admission
from service.attempts import attempt
from service.catalogue import Selection
from service.engine import Engine, Live
from service.fetching import Fetched, FetchUsers
from service.impressions import POPULARITY, Scored, impression_of
from service.ordering import Ranked
from service.scoring import Items, Sought, found_in_chunks, found_together
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
class Notice:
    """Something about the query that changed the answer, and the app that it was about, if one."""

    code: NoticeCode
    app_id: str | None = None


@dataclass(frozen=True)
class Ranking:
    """The answer. degraded: names of what was missing and stood in for; took_ms: since the request was here."""

    version: str
    items: tuple[Ranked, ...]
    degraded: tuple[str, ...]
    notices: tuple[Notice, ...]
    took_ms: float


@dataclass(frozen=True)
class Asked:
    """A query on its way. arrived: when it came, by the ranker's clock; request_id: None where nobody is shown it."""

    query: RankQuery
    request_id: str | None
    arrived: float


@dataclass(frozen=True)
class Begun:
    """A ranking of which everything is known but the answer."""

    asked: Asked
    fetched: Fetched
    query: Query
    sought: Sought


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
    """Ranks with the live version, or with any other that was prepared.

    fetch: users by id, in the order asked; raises nothing for a store that is away.
    """

    def __init__(self, fetch: FetchUsers, engine: Engine, *, parts: RankerParts) -> None:
        self.fetch = fetch
        self._engine = engine
        self._parts = parts
        self._admissions: WeakKeyDictionary[Live, Admission] = WeakKeyDictionary()

    def rank(self, query: RankQuery, *, request_id: str) -> Ranking:
        """Rank with the live version and record what is shown under this id.

        Raises NoLiveVersion, and Refused where the query does not fit its schema.
        """
        return _told(*self.rank_many([Asked(query, request_id, self._parts.clock())]))

    def rank_many(self, asked: Sequence[Asked]) -> list[Ranking | Exception]:
        """Rank together, each as if it were alone: its ranking, or what `rank` would have raised for it."""
        fetched = attempt(partial(self.fetch, [one.query.user_id for one in asked]))
        if isinstance(fetched, Exception):
            return [fetched] * len(asked)
        return self._ended(self.begin(asked, fetched))

    def rank_with(self, version: Live, query: RankQuery) -> Ranking:
        """Rank with this version; nobody is shown it. Raises Refused where the query does not fit its schema."""
        asked = Asked(query, None, self._parts.clock())
        (fetched,) = self.fetch([query.user_id])
        return _told(*self._ended([self._begun(asked, fetched, live=version, now=self._parts.clock())]))

    def begin(self, asked: Sequence[Asked], fetched: Sequence[Fetched]) -> list[Begun | Exception]:
        """Everything of these rankings up to their scores, by the live version; fetched: each one's user."""
        live = attempt(self._engine.live)
        if isinstance(live, Exception):
            return [live] * len(asked)
        now = self._parts.clock()
        pairs = zip(asked, fetched, strict=True)
        return [attempt(partial(self._begun, one, whose, live=live, now=now)) for one, whose in pairs]

    def finish(self, begun: Sequence[Begun]) -> list[Ranking | Exception]:
        """The answers to what was begun together, scored together."""
        found = found_together([one.sought for one in begun])
        return [
            items if isinstance(items, Exception) else attempt(partial(self._answer, one, items))
            for one, items in zip(begun, found, strict=True)
        ]

    def finish_long(self, begun: Begun) -> Iterator[Ranking | None]:
        """The answer to one ranking, after a None for each moment at which others may have their turns."""
        now = self._parts.clock()  # it may have waited for others of its kind since it was begun
        begun = replace(begun, sought=replace(begun.sought, late=self._is_late(begun.asked, now)))
        for items in found_in_chunks(begun.sought):
            yield None if items is None else self._answer(begun, items)

    def _ended(self, begun: Sequence[Begun | Exception]) -> list[Ranking | Exception]:
        """The answers to all of these, without a pause."""
        short = iter(self.finish([one for one in begun if isinstance(one, Begun) and not one.sought.is_long]))
        return [
            one
            if isinstance(one, Exception)
            else attempt(partial(self._whole, one))
            if one.sought.is_long
            else next(short)
            for one in begun
        ]

    def _whole(self, begun: Begun) -> Ranking:
        *_, ranking = filter(None, self.finish_long(begun))
        return ranking

    def _begun(self, asked: Asked, fetched: Fetched, *, live: Live, now: float) -> Begun:
        query = self._admission(live).admit(asked.query, fetched)
        country = _country(asked.query, fetched)
        selection = live.shelf.select(asked.query.candidates, country=country, without=_left_out(asked.query, query))
        encoded = live.fast.encode(query)
        return Begun(asked, fetched, query, Sought(live, encoded, selection, asked.query.k, self._is_late(asked, now)))

    def _is_late(self, asked: Asked, now: float) -> bool:
        return now - asked.arrived >= self._parts.budget_s

    def _admission(self, live: Live) -> Admission:
        admission = self._admissions.get(live)
        if admission is None:
            admission = self._admissions[live] = Admission(live.scorer.schema)
        return admission

    def _answer(self, begun: Begun, items: Items) -> Ranking:
        """The answer that these items make, counted and recorded."""
        sought, asked, missing = begun.sought, begun.asked, begun.fetched.missing
        degraded = (*missing, SCORER) if sought.late else missing
        parts = self._parts
        parts.meter.ranked(count=len(sought.selection.rows), statuses=sought.encoded.statuses, degraded=degraded)
        if items and asked.request_id is not None:
            scorer = POPULARITY if sought.late else sought.live.version
            scored = Scored(sought.live, scorer, begun.query, sought.selection, items)
            parts.record(impression_of(scored, request_id=asked.request_id, at=parts.now()))
        took_ms = (parts.clock() - asked.arrived) * 1000
        return Ranking(sought.live.version, items, degraded, _notices(begun.fetched, sought.selection), took_ms)


def _told(outcome: Ranking | Exception) -> Ranking:
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _country(query: RankQuery, fetched: Fetched) -> str | None:
    """Where the user is: what the request says, else what the store says, whether or not the network reads it."""
    stored = fetched.record.features if fetched.record else {}
    for source in (query.context, query.features, stored):
        if isinstance(country := source.get(COUNTRY), str):
            return country
    return None


def _left_out(query: RankQuery, asked: Query) -> frozenset[str]:
    """What may not be in the answer: candidates that were given are not held back for being installed."""
    return query.exclude if query.candidates is not None else query.exclude | asked.history.keys()


def _notices(fetched: Fetched, selection: Selection) -> tuple[Notice, ...]:
    nobody = (Notice("unknown_user"),) if fetched.answered and fetched.record is None else ()
    if not (selection.unknown or selection.unavailable or selection.doubled):
        return nobody
    of_apps: dict[NoticeCode, tuple[str, ...]] = {
        "unknown_app": selection.unknown,
        "unavailable": selection.unavailable,
        "duplicate": selection.doubled,
    }
    return (*nobody, *(Notice(code, app_id) for code, app_ids in of_apps.items() for app_id in app_ids))
