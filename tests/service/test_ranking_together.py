"""Ranked together, in chunks or alone: each is answered as it would be by itself, whatever happens to the others."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service import scoring
from service.admission import Refused
from service.breaker import Breaker
from service.container import Container
from service.errors import NoLiveVersion
from service.fetching import Fetched, UserFetcher
from service.rank_desk import DeskLimits, RankDesk
from service.ranker import Asked, Ranker, RankerParts, Ranking, RankQuery
from service.store.log_ports import Impression
from service.store.ports import UserRecord
from tests.service.store_front import APPS, COUNTRIES, DAYTIMES, LIVE, USERS

TIED = 1e-6  # two scores nearer than this may change places when they are computed beside others


class Counter:
    """A meter that keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def ranked(self, **told: object) -> None:
        self.told.append(told)


class Bench:
    """A ranker on the store front, and all that leaves it."""

    def __init__(self, container: Container, *, now: float = 0.0, budget_s: float = 1.0) -> None:
        self.meter, self.kept = Counter(), list[Impression]()
        parts = RankerParts(self.meter, lambda: now, lambda: 7.0, budget_s, self.kept.append)
        fetch = UserFetcher(container.features, copies=10, breaker=Breaker(lambda: 0.0)).many
        self.ranker = Ranker(fetch, container.engine, parts=parts)

    def rank(self, asked: Sequence[Asked]) -> list[Ranking | Exception]:
        return self.ranker.rank_many(asked)


@pytest.fixture
def container(container: Container) -> Container:
    container.engine.swap(container.prepare(LIVE))
    container.features.put_users([UserRecord("abroad", {"country": "JP", "age": 40.0}, {APPS[0]: 3, "com.x": 1})])
    return container


def random_query(rng: Random) -> RankQuery:
    """Any query that may be asked, sensible or not."""
    features = {"country": rng.choice([*COUNTRIES, "nowhere", None]), "age": rng.choice([30, 41.5, None])}
    told: dict[str, Any] = {name: features[name] for name in rng.sample(sorted(features), rng.randint(0, 2))}
    if rng.random() < 0.15:
        told["agee"] = 1
    context: dict[str, Any] = {"battery": rng.choice([0.5, "low"])}
    if rng.random() < 0.7:
        context = {"daytime": rng.choice(DAYTIMES)}
    candidates = rng.choices([*APPS, "com.unheard"], k=rng.randint(1, 30)) if rng.random() < 0.6 else None
    return RankQuery(
        rng.choice([*USERS, "abroad", "stranger"]),
        told,
        {app_id: rng.randint(1, 5) for app_id in rng.sample(APPS, 3)} if rng.random() < 0.3 else None,
        context,
        candidates,
        frozenset(rng.sample(APPS, rng.randint(0, 4))),
        rng.randint(1, 12),
    )


def outcomes(answers: Sequence[Ranking | Exception]) -> list[Any]:
    """The answers without their scores, as far as these are told apart."""
    return [
        (type(one), str(one))
        if isinstance(one, Exception)
        else (one.version, one.degraded, one.notices, [round(item.score, 5) for item in one.items])
        for one in answers
    ]


def same_order(together: Ranking, alone: Ranking) -> bool:
    """Whether the same apps came in the same order, those that tie apart."""
    pairs = zip(together.items, alone.items, strict=True)
    return all(one.app_id == other.app_id or abs(one.score - other.score) < TIED for one, other in pairs)


@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 2**32), count=st.integers(1, 9))
def test_each_of_a_batch_is_answered_counted_and_recorded_as_it_is_alone(
    container: Container, seed: int, count: int
) -> None:
    rng = Random(seed)
    asked = [Asked(random_query(rng), f"r{place}", rng.choice([0.0, -2.0])) for place in range(count)]
    batch, single = Bench(container), Bench(container)
    together, alone = batch.rank(asked), [single.rank([one])[0] for one in asked]
    assert outcomes(together) == outcomes(alone)
    for one, other in zip(together, alone, strict=True):
        assert isinstance(one, Exception) or same_order(one, cast(Ranking, other))
    assert batch.meter.told == single.meter.told
    for kept, apart in zip(batch.kept, single.kept, strict=True):
        assert replace(kept, items=()) == replace(apart, items=())
        assert values_of(kept) == values_of(apart)


def values_of(one: Impression) -> dict[str, Any]:
    """What an impression says of each app but its place, which two that tie may have changed."""
    return {item.app_id: (round(item.score, 5), dict(item.features), item.others) for item in one.items}


def asked(*names: str, **query: Any) -> list[Asked]:  # noqa: ANN401  # a test's own
    return [Asked(RankQuery(name, **query), f"r-{name}", 0.0) for name in names]


def test_what_is_wrong_with_one_is_told_of_it_alone(container: Container) -> None:
    odd = Asked(RankQuery("u1", {"agee": 1}), "odd", 0.0)
    first, second, third = Bench(container).rank([*asked("u1"), odd, *asked("u2")])
    assert isinstance(second, Refused)
    assert isinstance(first, Ranking)
    assert isinstance(third, Ranking)


def test_what_nobody_foresaw_of_one_is_told_of_it_alone(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    live = container.engine.live()
    best = type(live.fast).best

    def fails_for_odd(self: object, asks: Sequence[Any]) -> object:
        if any(ask.encoded.query.user_id == "odd" for ask in asks):
            raise ZeroDivisionError("nobody foresaw this")
        return best(live.fast, asks)

    monkeypatch.setattr(type(live.fast), "best", fails_for_odd)
    bench = Bench(container)
    first, second, third = bench.rank(asked("u1", "odd", "u2"))
    assert isinstance(second, ZeroDivisionError)
    assert [isinstance(one, Ranking) for one in (first, third)] == [True, True]
    assert [one.user_id for one in bench.kept] == ["u1", "u2"]


def test_an_impression_that_cannot_be_recorded_is_trouble_of_its_own_request_only(container: Container) -> None:
    bench = Bench(container)
    bench.meter.ranked = only_for("r-u1")  # type: ignore[method-assign]
    first, second = bench.rank(asked("u1", "u2"))
    assert isinstance(first, Ranking)
    assert isinstance(second, ZeroDivisionError)


def only_for(_: str) -> Callable[..., None]:
    calls = iter([None, ZeroDivisionError("the meter is broken")])

    def ranked(**_: object) -> None:
        if error := next(calls):
            raise error

    return ranked


def test_users_of_a_batch_are_fetched_in_one_call_and_a_failure_of_that_is_everybodys(container: Container) -> None:
    calls: list[list[str]] = []

    def fetch(user_ids: Sequence[str], /, *, at_once: bool = False) -> list[Fetched]:
        calls.append(list(user_ids))
        if "broken" in user_ids:
            raise ValueError("a mistake of ours")
        return [Fetched(None) for _ in user_ids]

    bench = Bench(container)
    bench.ranker.fetch = fetch
    assert [isinstance(one, Ranking) for one in bench.rank(asked("a", "b"))] == [True, True]
    assert [type(one) for one in bench.rank(asked("a", "broken"))] == [ValueError] * 2
    assert calls == [["a", "b"], ["a", "broken"]]


def test_with_nothing_live_everybody_of_a_batch_is_told_so(container: Container) -> None:
    container.engine._live = None
    assert [type(one) for one in Bench(container).rank(asked("a", "b"))] == [NoLiveVersion] * 2


def test_the_budget_is_each_requests_own_from_its_arrival(container: Container) -> None:
    bench = Bench(container, now=10.0)
    fresh, late = bench.rank([Asked(RankQuery("u1"), "fresh", 9.5), Asked(RankQuery("u1"), "late", 9.0)])
    assert isinstance(fresh, Ranking)
    assert isinstance(late, Ranking)
    assert (fresh.degraded, late.degraded) == ((), ("scorer",))
    assert (fresh.took_ms, late.took_ms) == (500.0, 1000.0)
    assert [one.version for one in bench.kept] == [LIVE, "popularity"]


@pytest.mark.parametrize("arrived", [0.0, -2.0])
@pytest.mark.parametrize("k", [1, 3, 50])
def test_a_ranking_in_chunks_is_that_of_one_pass_by_score_and_by_popularity(
    container: Container, monkeypatch: pytest.MonkeyPatch, arrived: float, k: int
) -> None:
    query = Asked(RankQuery("u1", k=k), "r", arrived)
    (whole,) = Bench(container).rank([query])
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 3)
    bench = Bench(container)
    (begun,) = bench.ranker.begin([query], bench.ranker.fetch(["u1"]))
    assert not isinstance(begun, Exception)
    assert begun.sought.is_long
    *pauses, chunked = bench.ranker.finish_long(begun)
    assert pauses == [None] * begun.sought.chunks
    assert outcomes([cast(Ranking, chunked)]) == outcomes([whole])
    assert same_order(cast(Ranking, chunked), cast(Ranking, whole))
    assert [item.app_id for item in bench.kept[0].items] == [item.app_id for item in cast(Ranking, chunked).items]
    assert len(bench.meter.told) == 1
    assert outcomes(bench.rank([query])) == outcomes([whole])  # without pauses too


def test_on_the_desk_others_are_answered_between_the_chunks_of_a_whole_catalogue(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    (whole,) = Bench(container).rank(asked("u1", k=50))
    monkeypatch.setattr(scoring, "ROWS_AT_ONCE", 3)
    limits = DeskLimits(max_under_way=10, batch_limit=4, shed_after_s=1.0)
    desk, ended = RankDesk(Bench(container).ranker, limits=limits, clock=lambda: 0.0), list[str]()

    async def rank(name: str, **query: Any) -> Ranking:  # noqa: ANN401  # a test's own
        found = await desk.rank(RankQuery(name, **query), request_id=name, arrived=0.0)
        ended.append(name)
        return found

    async def all_of_them() -> Ranking:
        first = asyncio.create_task(rank("u1", k=50))
        await asyncio.sleep(0)
        for name in ("u2", "u3"):
            await rank(name, candidates=APPS[:2])
        return await first

    chunked = asyncio.run(all_of_them())

    assert ended == ["u2", "u3", "u1"]
    assert outcomes([chunked]) == outcomes([whole])
    assert same_order(chunked, cast(Ranking, whole))


def test_the_impression_keeps_an_apps_values_as_they_were_scored_whatever_is_put_since(container: Container) -> None:
    bench = Bench(container)
    bench.rank(asked("u1", candidates=[APPS[3]]))
    before = dict(bench.kept[0].items[0].features)
    container.features.put_apps([replace(app, features={}) for app in [container.features.get_app(APPS[3])] if app])
    shelf = container.engine.live().shelf
    shelf.refresh(container.features.apps_since(shelf.sequence))
    assert before
    assert dict(bench.kept[0].items[0].features) == before
