"""A user for a ranking, with a store that answers, fails and returns as a script says."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import Barrier, Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.breaker import Breaker
from service.errors import StoreUnavailable
from service.fetching import FEATURE_STORE, LOCAL_COPY, Copies, Fetched, UserFetcher
from service.store.ports import UserRecord
from tests.service.clock import Clock

ANA = UserRecord("ana", {"country": "PT", "age": 31.0, "old": None, "tags": ["fun"]}, {"com.b": 3, "com.a": 1})
FIRST_S, LONGEST_S = 0.05, 1.0
Fetch = Callable[[str], Fetched]


class Store:
    """Users by id, and whether it answers. asked: how often it was; during: what happens while it is."""

    def __init__(self, *users: UserRecord) -> None:
        self.users = {user.id: user for user in users}
        self.trouble: Exception | None = None
        self.asked = 0
        self.during: Callable[[], object] = lambda: None

    def get_users(self, user_ids: Sequence[str]) -> tuple[UserRecord | None, ...]:
        self.asked += 1
        self.during()
        if self.trouble:
            raise self.trouble
        return tuple(map(self.users.get, user_ids))

    def fail(self) -> None:
        self.trouble = StoreUnavailable("redis", "timed out")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> Store:
    return Store(ANA)


def fetcher_of(store: Store, clock: Clock, *, copies: int = 10) -> Fetch:
    features: Any = store  # the one method of it that a ranking calls
    fetcher = UserFetcher(features, copies=copies, breaker=Breaker(clock, first_s=FIRST_S, longest_s=LONGEST_S))
    return lambda user_id: fetcher.many([user_id])[0]


@pytest.fixture
def fetch(store: Store, clock: Clock) -> Fetch:
    return fetcher_of(store, clock)


def test_a_store_that_answers_is_asked_once_and_nothing_is_missing(fetch: Fetch, store: Store) -> None:
    assert fetch("ana") == Fetched(ANA)
    assert fetch("nobody") == Fetched(None)
    assert fetch("nobody").answered
    assert store.asked == 3


def test_while_the_store_is_away_its_last_word_stands_in(fetch: Fetch, store: Store) -> None:
    fetch("ana")
    store.fail()
    fetched = fetch("ana")
    assert fetched == Fetched(ANA, (FEATURE_STORE,))
    assert fetched.record
    assert list(fetched.record.history) == ["com.b", "com.a"]
    assert not fetched.answered


def test_at_once_the_last_word_stands_in_and_the_store_is_not_asked(store: Store, clock: Clock) -> None:
    features: Any = store
    fetcher = UserFetcher(features, copies=10, breaker=Breaker(clock))
    fetcher.many(["ana"])
    assert fetcher.many(["ana", "bob"], at_once=True) == [
        Fetched(ANA, (FEATURE_STORE,)),
        Fetched(None, (FEATURE_STORE, LOCAL_COPY)),
    ]
    assert store.asked == 1


def test_of_a_user_who_was_never_fetched_nothing_is_known(fetch: Fetch, store: Store) -> None:
    store.fail()
    assert fetch("ana") == Fetched(None, (FEATURE_STORE, LOCAL_COPY))


def test_every_answer_refreshes_the_copy_and_a_deleted_user_leaves_none(fetch: Fetch, store: Store) -> None:
    fetch("ana")
    store.users["ana"] = UserRecord("ana", {"country": "BR"})
    fetch("ana")
    store.users["bob"] = UserRecord("bob")
    fetch("bob")
    del store.users["bob"]
    fetch("bob")
    store.fail()
    assert fetch("ana").record == UserRecord("ana", {"country": "BR"})
    assert fetch("bob") == Fetched(None, (FEATURE_STORE, LOCAL_COPY))


def test_the_same_object_given_again_is_not_packed_again_and_one_that_changed_is() -> None:
    copies, ana = Copies(2), UserRecord("ana", {"country": "PT"})
    copies.keep("ana", ana)
    copies.keep("ana", ana)
    assert copies.get("ana") == ana
    copies.keep("ana", UserRecord("ana", {"country": "BR"}))
    assert copies.get("ana") == UserRecord("ana", {"country": "BR"})
    copies.keep("ana", None)
    assert copies.get("ana") is None


def test_copies_are_bounded_and_the_one_not_asked_for_longest_goes_first() -> None:
    copies = Copies(2)
    for name in ("a", "b"):
        copies.keep(name, UserRecord(name))
    copies.get("a")
    copies.keep("c", UserRecord("c"))
    assert [copies.get(name) is not None for name in "abc"] == [True, False, True]
    assert len(copies) == 2


def test_a_failed_store_is_left_alone_for_a_pause_and_then_asked_again(
    fetch: Fetch, store: Store, clock: Clock
) -> None:
    store.fail()
    for _ in range(5):
        fetch("ana")
    assert store.asked == 1
    clock.advance(FIRST_S)
    fetch("ana")
    assert store.asked == 2


def test_the_pause_grows_to_its_bound_and_no_further(fetch: Fetch, store: Store, clock: Clock) -> None:
    store.fail()
    asked_at = []
    for _ in range(10_000):
        before = store.asked
        fetch("ana")
        if store.asked > before:
            asked_at.append(clock.now)
        clock.advance(0.001)
    pauses = [after - before for before, after in pairwise(asked_at)]
    assert pauses == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, *[1.0] * (len(pauses) - 5)], abs=0.003)


def test_one_answer_ends_it_and_the_next_failure_pauses_as_short_as_the_first(
    fetch: Fetch, store: Store, clock: Clock
) -> None:
    store.fail()
    for _ in range(6):
        fetch("ana")
        clock.advance(LONGEST_S)
    store.trouble = None
    assert fetch("ana") == Fetched(ANA)
    assert fetch("ana") == Fetched(ANA)
    store.fail()
    fetch("ana")
    clock.advance(FIRST_S)
    before = store.asked
    fetch("ana")
    assert store.asked == before + 1


def test_of_many_at_once_one_asks_a_store_that_failed(fetch: Fetch, store: Store, clock: Clock) -> None:
    store.fail()
    fetch("ana")
    clock.advance(FIRST_S)
    others_are_done, barrier = Event(), Barrier(8)
    store.during = lambda: others_are_done.wait(20)
    done: list[Fetched] = []

    def one(_: int) -> None:
        barrier.wait()
        done.append(fetch("ana"))
        if len(done) == 7:
            others_are_done.set()

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(8)))
    assert store.asked == 2
    assert done == [Fetched(None, (FEATURE_STORE, LOCAL_COPY))] * 8


def test_what_is_no_trouble_of_the_store_is_raised_and_the_store_is_asked_again_later(
    fetch: Fetch, store: Store, clock: Clock
) -> None:
    store.trouble = ValueError("a mistake of ours")
    for _ in range(3):
        with pytest.raises(ValueError, match="of ours"):
            fetch("ana")
        clock.advance(LONGEST_S)
    store.trouble = None
    assert fetch("ana") == Fetched(ANA)


def test_an_outage_is_logged_once_and_so_is_its_end(
    fetch: Fetch, store: Store, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    store.fail()
    for _ in range(5):
        fetch("ana")
        clock.advance(LONGEST_S)
    store.trouble = None
    fetch("ana")
    fetch("ana")
    began, ended = (record.message for record in caplog.records)
    assert began.startswith(
        "rankings: local copies stand in for the store: the store redis is not available (timed out)"
    )
    assert ended == "rankings: the store answers again"


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.tuples(st.sampled_from(["ana", "bob", "eve"]), st.booleans(), st.floats(0, 1.5)), max_size=40),
    st.integers(1, 3),
)
def test_whatever_happens_it_answers_with_the_newest_that_it_saw(
    script: list[tuple[str, bool, float]], limit: int
) -> None:
    store, clock = Store(), Clock()
    fetch = fetcher_of(store, clock, copies=limit)
    seen: dict[str, UserRecord] = {}
    for turn, (name, answers, pause_s) in enumerate(script):
        store.users[name] = UserRecord(name, {"turn": turn})
        store.trouble = None if answers else StoreUnavailable("redis", "timed out")
        before = store.asked
        fetched = fetch(name)
        assert store.asked <= before + 1
        assert fetched.answered == (answers and store.asked > before)
        if fetched.answered:
            seen[name] = store.users[name]
        assert fetched.record in (seen.get(name), None)
        assert fetched.record or LOCAL_COPY in fetched.missing
        clock.advance(pause_s)
    store.trouble = None
    clock.advance(LONGEST_S)
    assert fetch("ana").answered
