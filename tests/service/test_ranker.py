"""The ranker: what it admits, where it looks, and the order it gives."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.schema import FeatureSchema
from service.admission import Admission, Refused
from service.breaker import Breaker
from service.container import Container
from service.errors import NoLiveVersion
from service.fetching import Fetched, UserFetcher
from service.ordering import best
from service.ranker import Ranker, RankerParts, RankQuery
from service.store.log_ports import Impression
from service.store.ports import AppChanges, AppRecord, UserRecord
from tests.service.store_front import APPS, LIVE, PASSED, SCHEMA

NOBODY = Fetched(None)
AWAY = Fetched(None, ("feature_store", "local_copy"))


class Tally:
    """A meter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Mapping[str, str], tuple[str, ...]]] = []

    def ranked(self, *, count: int, statuses: Mapping[str, str], degraded: Iterable[str]) -> None:
        self.told.append((count, statuses, tuple(degraded)))


@dataclass
class Parts:
    """A ranker's parts as a test would have them."""

    meter: Tally = field(default_factory=Tally)
    clock: Callable[[], float] = lambda: 0.0
    now: Callable[[], float] = lambda: 0.0
    kept: list[Impression] = field(default_factory=list)

    def of(self, container: Container, fetched: Fetched | None = None) -> Ranker:
        """A ranker to which everybody is what was fetched, else who the store says."""
        parts = RankerParts(self.meter, self.clock, self.now, budget_s=0.5, record=self.kept.append)
        stored = UserFetcher(container.features, copies=1, breaker=Breaker(lambda: 0.0)).many
        return Ranker(
            (lambda ids, /, *, at_once=False: [fetched] * len(ids)) if fetched else stored,
            container.engine,
            parts=parts,
        )


def required(name: str) -> FeatureSchema:
    fields = [field.model_copy(update={"required": field.name == name}) for field in SCHEMA.fields]
    return SCHEMA.model_copy(update={"fields": tuple(fields)})


def pointers(query: RankQuery, schema: FeatureSchema, fetched: Fetched) -> list[str]:
    with pytest.raises(Refused) as caught:
        Admission(schema).admit(query, fetched)
    return [one.pointer for one in caught.value.refusals]


def test_the_requests_features_go_over_the_stored_ones_one_by_one() -> None:
    stored = Fetched(UserRecord("u", {"country": "PT", "age": 30.0}, {"com.a": 2}))
    asked = Admission(SCHEMA).admit(RankQuery("u", {"age": 31.0}), stored)
    assert asked.user == {"country": "PT", "age": 31.0}
    assert asked.history == {"com.a": 2}


def test_a_history_in_the_request_replaces_the_stored_one_even_when_empty() -> None:
    stored = Fetched(UserRecord("u", {}, {"com.a": 2}))
    assert Admission(SCHEMA).admit(RankQuery("u", history={}), stored).history == {}


def test_stored_values_that_no_longer_fit_the_schema_are_left_out() -> None:
    stored = Fetched(UserRecord("u", {"age": "thirty", "country": "PT", "of_an_earlier_schema": 1}))
    assert Admission(SCHEMA).admit(RankQuery("u"), stored).user == {"country": "PT"}


def test_a_required_context_field_must_be_sent() -> None:
    assert pointers(RankQuery("u"), required("daytime"), NOBODY) == ["/context/daytime"]
    assert Admission(required("daytime")).admit(RankQuery("u", context={"daytime": None}), NOBODY)


def test_a_required_user_field_may_be_sent_or_stored() -> None:
    stored = Fetched(UserRecord("u", {"country": "PT"}))
    assert pointers(RankQuery("u"), required("country"), NOBODY) == ["/user/features/country"]
    assert Admission(required("country")).admit(RankQuery("u", {"country": "PT"}), NOBODY)
    assert Admission(required("country")).admit(RankQuery("u"), stored)


def test_a_required_user_field_is_not_asked_for_while_the_store_is_away() -> None:
    assert Admission(required("country")).admit(RankQuery("u"), AWAY)


def test_every_refusal_is_named_at_once() -> None:
    query = RankQuery("u", {"agee": 1, "age": "old"}, context={"battery": "low"})
    assert pointers(query, SCHEMA, NOBODY) == ["/user/features/agee", "/user/features/age", "/context/battery"]


@settings(deadline=None)
@given(st.lists(st.sampled_from([0.1, 0.25, 0.5, 0.75]), max_size=30), st.integers(1, 12), st.randoms())
def test_the_best_are_those_that_sorting_everything_gives(scores: list[float], k: int, random: Random) -> None:
    rows = list(range(len(scores)))
    random.shuffle(rows)
    ids = [f"app{row}" for row in range(len(scores))]
    naive = sorted((-score, ids[row]) for score, row in zip(scores, rows, strict=True))[:k]
    found = best(np.array(scores), np.array(rows, dtype=np.int64), ids=ids, k=k)
    assert [(-item.score, item.app_id) for item in found] == naive
    assert [ids[item.row] for item in found] == [item.app_id for item in found]


@pytest.fixture
def serving(container: Container) -> Container:
    container.engine.swap(container.prepare(LIVE))
    return container


def test_a_ranking_tells_the_meter_what_it_saw(serving: Container) -> None:
    tally = Tally()
    Parts(tally).of(serving).rank(
        RankQuery("stranger", {"country": None}, context={"daytime": "at no time known"}), request_id="r1"
    )
    count, statuses, degraded = tally.told[0]
    assert count == len(APPS)
    assert statuses["country"] == "null"
    assert statuses["daytime"] == "unknown"
    assert statuses["battery"] == "missing"
    assert degraded == ()


def test_the_time_taken_is_read_from_the_clock_given(serving: Container) -> None:
    ticks = iter([1.0, 1.125, 1.25])
    ranker = Parts(clock=lambda: next(ticks)).of(serving)
    assert ranker.rank(RankQuery("u1"), request_id="r1").took_ms == 250.0


@pytest.mark.parametrize("missing", [("feature_store",), ("feature_store", "local_copy")])
def test_what_could_not_be_fetched_is_told_to_client_and_meter(serving: Container, missing: tuple[str, ...]) -> None:
    tally = Tally()
    ranking = Parts(tally).of(serving, Fetched(None, missing)).rank(RankQuery("u1"), request_id="r1")
    assert ranking.degraded == missing
    assert tally.told[0][2] == missing
    assert len(ranking.items) == 10
    assert ranking.notices == ()


def spent() -> Callable[[], float]:
    """A clock on which the budget is over when the user has been fetched."""
    ticks = iter([0.0, 0.5, 0.5])
    return lambda: next(ticks)


def test_when_the_budget_is_spent_before_scoring_the_most_popular_come_first(serving: Container) -> None:
    popularity = {"com.app07": 6, "com.app03": 3, "com.gone": 1}
    serving.engine.swap(replace(serving.engine.live(), popularity=popularity))
    parts = Parts(clock=spent())
    ranking = parts.of(serving, AWAY).rank(RankQuery("u1", k=3), request_id="r1")
    assert ranking.degraded == ("feature_store", "local_copy", "scorer")
    assert ranking.version == LIVE
    shown = [(item.app_id, item.score) for item in ranking.items]
    assert shown == [("com.app07", 0.6), ("com.app03", 0.3), ("com.app00", 0.0)]
    assert [one.version for one in parts.kept] == ["popularity"]  # nobody may take these scores for the version's


def test_popularity_ranks_what_may_be_shown_and_nothing_else(serving: Container) -> None:
    ranking = (
        Parts(clock=spent()).of(serving).rank(RankQuery("u1", candidates=["com.app01", "com.app02"]), request_id="r1")
    )
    assert {item.app_id for item in ranking.items} == {"com.app01", "com.app02"}


def test_a_prepared_version_knows_what_was_popular_in_its_training(serving: Container) -> None:
    popularity = serving.engine.live().popularity
    assert set(popularity) <= set(APPS)
    assert sum(popularity.values()) > 100


def test_an_answer_is_recorded_with_what_was_shown(serving: Container) -> None:
    serving.features.put_users([UserRecord("ana", {"country": "PT", "age": 31.0, "of_a_later_schema": 1}, {"x": 2})])
    parts = Parts(now=lambda: 5.25)
    query = RankQuery("ana", {"age": 32.0}, context={"daytime": "evening"}, k=3)
    ranking = parts.of(serving).rank(query, request_id="r1")
    (impression,) = parts.kept
    assert (impression.request_id, impression.at, impression.version) == ("r1", 5.25, LIVE)
    assert (impression.user_id, impression.user) == ("ana", {"country": "PT", "age": 32.0})
    assert (impression.context, impression.history) == ({"daytime": "evening"}, {"x": 2})
    shown = [(item.position, item.app_id, item.score) for item in impression.items]
    assert shown == [(place, item.app_id, item.score) for place, item in enumerate(ranking.items, 1)]


def test_the_values_recorded_are_those_scored_even_when_the_app_changes_meanwhile(serving: Container) -> None:
    shelf = serving.engine.live().shelf
    shelf.refresh(AppChanges(10**6, (AppRecord("com.app00", {"rating": 1.0, "odd": "x", "tags": "wrong"}),), ()))
    scored = shelf.select(["com.app00"], country=None)
    shelf.refresh(AppChanges(10**6 + 1, (AppRecord("com.app00", {"rating": 5.0}),), ()))
    assert scored.features_of("com.app00") == {"rating": 1.0}
    assert shelf.select(["com.app00"], country=None).features_of("com.app00") == {"rating": 5.0}


def test_an_answer_without_an_app_is_no_impression(serving: Container) -> None:
    parts = Parts()
    parts.of(serving).rank(RankQuery("u1", candidates=["com.unheard"]), request_id="r1")
    assert parts.kept == []


def test_trying_a_version_leaves_no_impression(serving: Container) -> None:
    parts = Parts()
    parts.of(serving).rank_with(serving.engine.live(), RankQuery("u1"))
    assert parts.kept == []


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        (RankQuery("u1", context={}, features={"country": "PT"}), True),
        (RankQuery("u1", features={"country": "JP"}), False),
        (RankQuery("abroad"), True),
        (RankQuery("abroad", features={"country": "JP"}), False),
        (RankQuery("nobody"), False),
    ],
)
def test_the_country_is_the_requests_and_else_the_stored_one(serving: Container, query: RankQuery, shown: bool) -> None:
    serving.features.put_users([UserRecord("abroad", {"country": "PT"})])
    serving.features.put_apps([AppRecord("com.portuguese", {}, countries=("PT",))])
    serving.engine.live().shelf.refresh(serving.features.apps_since(serving.engine.live().shelf.sequence))
    items = serving.ranker.rank(replace(query, k=100), request_id="r1").items
    assert ("com.portuguese" in {item.app_id for item in items}) is shown


def test_another_version_can_rank_without_serving(serving: Container) -> None:
    query = RankQuery("u1", candidates=APPS)
    challenger = serving.ranker.rank_with(serving.prepare(PASSED), query)
    assert challenger.version == PASSED
    assert serving.ranker.rank(query, request_id="r1").version == LIVE
    assert challenger.items != serving.ranker.rank(query, request_id="r1").items


def test_nothing_live_is_said_so(container: Container) -> None:
    with pytest.raises(NoLiveVersion):
        Parts().of(container).rank(RankQuery("u1"), request_id="r1")
