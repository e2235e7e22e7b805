"""The ranker: what it admits, where it looks, and the order it gives."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import Any, NoReturn

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.schema import FeatureSchema
from service.admission import Refused
from service.container import Container
from service.engine import Engine
from service.errors import NoLiveVersion, StoreUnavailable
from service.ranker import Fetched, Ranked, Ranker, RankQuery, admit, best
from service.store.ports import AppRecord, UserRecord
from tests.service.store_front import APPS, LIVE, PASSED, SCHEMA

NOBODY = Fetched(None, answered=True)
AWAY = Fetched(None, answered=False)


class Tally:
    """A meter that remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[int, Mapping[str, str], tuple[str, ...]]] = []

    def ranked(self, *, count: int, statuses: Mapping[str, str], degraded: Iterable[str]) -> None:
        self.told.append((count, statuses, tuple(degraded)))


class Broken:
    """A store that does not answer."""

    def __getattr__(self, _: str) -> NoReturn:
        raise StoreUnavailable("test.sqlite", "it is away")


def required(name: str) -> FeatureSchema:
    fields = [field.model_copy(update={"required": field.name == name}) for field in SCHEMA.fields]
    return SCHEMA.model_copy(update={"fields": tuple(fields)})


def pointers(query: RankQuery, schema: FeatureSchema, fetched: Fetched) -> list[str]:
    with pytest.raises(Refused) as caught:
        admit(query, schema, fetched=fetched)
    return [one.pointer for one in caught.value.refusals]


def test_the_requests_features_go_over_the_stored_ones_one_by_one() -> None:
    stored = Fetched(UserRecord("u", {"country": "PT", "age": 30.0}, {"com.a": 2}), answered=True)
    asked = admit(RankQuery("u", {"age": 31.0}), SCHEMA, fetched=stored)
    assert asked.user == {"country": "PT", "age": 31.0}
    assert asked.history == {"com.a": 2}


def test_a_history_in_the_request_replaces_the_stored_one_even_when_empty() -> None:
    stored = Fetched(UserRecord("u", {}, {"com.a": 2}), answered=True)
    assert admit(RankQuery("u", history={}), SCHEMA, fetched=stored).history == {}


def test_stored_values_that_no_longer_fit_the_schema_are_left_out() -> None:
    stored = Fetched(UserRecord("u", {"age": "thirty", "country": "PT", "of_an_earlier_schema": 1}), answered=True)
    assert admit(RankQuery("u"), SCHEMA, fetched=stored).user == {"country": "PT"}


def test_a_required_context_field_must_be_sent() -> None:
    assert pointers(RankQuery("u"), required("daytime"), NOBODY) == ["/context/daytime"]
    assert admit(RankQuery("u", context={"daytime": None}), required("daytime"), fetched=NOBODY)


def test_a_required_user_field_may_be_sent_or_stored() -> None:
    stored = Fetched(UserRecord("u", {"country": "PT"}), answered=True)
    assert pointers(RankQuery("u"), required("country"), NOBODY) == ["/user/features/country"]
    assert admit(RankQuery("u", {"country": "PT"}), required("country"), fetched=NOBODY)
    assert admit(RankQuery("u"), required("country"), fetched=stored)


def test_a_required_user_field_is_not_asked_for_while_the_store_is_away() -> None:
    assert admit(RankQuery("u"), required("country"), fetched=AWAY)


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
    assert found == tuple(Ranked(app_id, -score) for score, app_id in naive)


@pytest.fixture
def serving(container: Container) -> Container:
    container.engine.swap(container.prepare(LIVE))
    return container


def test_a_ranking_tells_the_meter_what_it_saw(serving: Container) -> None:
    tally = Tally()
    ranker = Ranker(serving.features, serving.engine, meter=tally, clock=lambda: 0.0)
    ranker.rank(RankQuery("stranger", {"country": None}, context={"daytime": "at no time known"}))
    count, statuses, degraded = tally.told[0]
    assert count == len(APPS)
    assert statuses["country"] == "null"
    assert statuses["daytime"] == "unknown"
    assert statuses["battery"] == "missing"
    assert degraded == ()


def test_the_time_taken_is_read_from_the_clock_given(serving: Container) -> None:
    ticks = iter([1.0, 1.25])
    ranker = Ranker(serving.features, serving.engine, meter=Tally(), clock=lambda: next(ticks))
    assert ranker.rank(RankQuery("u1")).took_ms == 250.0


def test_a_store_that_is_away_is_told_to_client_and_meter(serving: Container) -> None:
    tally = Tally()
    away: Any = Broken()
    ranking = Ranker(away, serving.engine, meter=tally, clock=lambda: 0.0).rank(RankQuery("u1"))
    assert ranking.degraded == ("feature_store",)
    assert tally.told[0][2] == ("feature_store",)
    assert len(ranking.items) == 10


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
    items = serving.ranker.rank(replace(query, k=100)).items
    assert ("com.portuguese" in {item.app_id for item in items}) is shown


def test_another_version_can_rank_without_serving(serving: Container) -> None:
    query = RankQuery("u1", candidates=APPS)
    challenger = serving.ranker.rank_with(serving.prepare(PASSED), query)
    assert challenger.version == PASSED
    assert serving.ranker.rank(query).version == LIVE
    assert challenger.items != serving.ranker.rank(query).items


def test_nothing_live_is_said_so(container: Container) -> None:
    ranker = Ranker(container.features, Engine(), meter=Tally(), clock=lambda: 0.0)
    with pytest.raises(NoLiveVersion):
        ranker.rank(RankQuery("u1"))
