"""The contract of EventLog, on every backend."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from model.query import Value
from service.store.backend import Backend
from service.store.log_ports import FORGOTTEN_KEPT_S, Displayed, EventLog, Feedback, Impression, LogCounts, Shown, Taken
from tests.service.clock import Clock

EVER = (0.0, 1e12)


@pytest.fixture
def log(backend: Backend) -> EventLog:
    return backend.log


def shown(app_id: str, position: int) -> Shown:
    features: dict[str, Value] = {"category": "games", "price": 0.0, "tags": ["a", "é"]}
    return Shown(app_id, position, 1 / (1 + position), features, 7, {"similar": 0.1 + 0.2})


def impression(request_id: str, *, at: float = 100.0, user_id: str = "u1") -> Impression:
    return Impression(
        request_id=request_id,
        at=at,
        version="20261101T000000Z-00000a",
        user_id=user_id,
        user={"country": "PT", "age": 31, "pro": True, "plan": None},
        context={"battery": 0.1 + 0.2, "tags": []},
        history={"com.z": 9, "com.a": 9, "com.m": 1},
        items=(shown("com.x", 1), shown("com.y", 2)),
    )


def install(event_id: str, *, at: float = 110.0, user_id: str | None = "u1", request_id: str | None = "r1") -> Feedback:
    return Feedback(
        id=event_id,
        kind="install",
        at=at,
        received_at=at + 1,
        app_id="com.x",
        user_id=user_id,
        request_id=request_id,
        dated=True,
    )


def ids(feedback: tuple[Feedback, ...]) -> list[str]:
    return [one.id for one in feedback]


def test_an_impression_comes_back_with_every_value_and_its_order(log: EventLog) -> None:
    assert log.show([impression("r1")]) == 1

    (back,) = log.impressions(*EVER)

    assert back == impression("r1")
    assert list(back.history) == ["com.z", "com.a", "com.m"]


def test_no_impressions_are_none_to_keep(log: EventLog) -> None:
    assert log.show([]) == 0
    assert log.counts() == LogCounts(0, 0)


def test_a_request_id_that_is_kept_stays_as_it_was(log: EventLog) -> None:
    log.show([impression("r1", user_id="first")])

    assert log.show([impression("r1", user_id="second"), impression("r2")]) == 1

    assert log.displayed(["r1"])["r1"].user_id == "first"
    assert log.counts().impressions == 2


def test_impressions_are_kept_all_or_none(log: EventLog) -> None:
    with pytest.raises(ZeroDivisionError):
        log.show(half_a_batch())

    assert log.counts().impressions == 0


def half_a_batch() -> Iterator[Impression]:
    yield impression("r1")
    raise ZeroDivisionError


def test_what_was_displayed_is_told_of_the_requests_that_are_known(log: EventLog) -> None:
    log.show([impression("r1", at=5.0), impression("r2", user_id="u2")])

    found = log.displayed(["r1", "nothing", "r1"])

    assert found == {"r1": Displayed("r1", 5.0, "u1", frozenset({"com.x", "com.y"}))}
    assert log.displayed([]) == {}


def test_ten_thousand_requests_are_looked_up_and_as_many_events_kept_at_once(log: EventLog) -> None:
    log.show(impression(f"r{number}") for number in range(300))
    asked = [f"r{number}" for number in range(10_000)]

    assert len(log.displayed(asked)) == 300
    assert set(log.take([install(f"e{number}") for number in range(10_000)])) == {Taken.NEW}
    assert log.counts().feedback == 10_000


def test_an_event_comes_back_as_it_was_taken(log: EventLog) -> None:
    events = (install("e1"), replace(install("e2", user_id=None, at=111.5), dated=False))

    assert log.take(events) == (Taken.NEW, Taken.NEW)

    assert tuple(log.feedback(*EVER)) == events


def test_no_events_are_none_to_take(log: EventLog) -> None:
    assert log.take([]) == ()


def test_an_event_sent_again_is_the_same_and_kept_once(log: EventLog) -> None:
    log.take([install("e1")])

    again = log.take([replace(install("e1"), received_at=500.0), install("e2")])

    assert again == (Taken.SAME, Taken.NEW)
    assert log.counts().feedback == 2


def test_an_undated_event_sent_again_later_is_the_same(log: EventLog) -> None:
    undated = replace(install("e1"), dated=False)
    log.take([undated])

    assert log.take([replace(undated, at=900.0, received_at=900.0)]) == (Taken.SAME,)


@pytest.mark.parametrize(
    "other",
    [
        replace(install("e1"), kind="click"),
        replace(install("e1"), app_id="com.y"),
        replace(install("e1"), user_id=None),
        replace(install("e1"), request_id="r2"),
        replace(install("e1"), at=111.0),
        replace(install("e1"), dated=False),
    ],
)
def test_a_known_id_with_anything_else_is_another_and_the_first_stays(log: EventLog, other: Feedback) -> None:
    log.take([install("e1")])

    assert log.take([other]) == (Taken.OTHER,)
    assert list(log.feedback(*EVER)) == [install("e1")]


def test_within_one_batch_the_first_of_an_id_counts(log: EventLog) -> None:
    first, other = install("e1"), replace(install("e1"), kind="click")

    assert log.take([first, first, other]) == (Taken.NEW, Taken.SAME, Taken.OTHER)
    assert list(log.feedback(*EVER)) == [first]


@pytest.mark.parametrize("name", ["'; DROP TABLE feedback; --", "ü-\U0001f600", "a b,c]{}*", "x" * 512])
def test_any_text_is_an_id(log: EventLog, name: str) -> None:
    log.show([impression(name, user_id=name)])
    log.take([install(name, user_id=name, request_id=name)])

    assert log.displayed([name])[name].user_id == name
    assert log.take([install(name, user_id=name, request_id=name)]) == (Taken.SAME,)
    assert ids(log.claim("here", count=5, idle_s=30)) == [name]
    assert log.forget_user(name) == 2


def test_impressions_are_read_oldest_first_from_since_and_before_until(log: EventLog) -> None:
    log.show([impression("late", at=30.0), impression("early", at=10.0), impression("mid", at=20.0)])

    assert [one.request_id for one in log.impressions(*EVER)] == ["early", "mid", "late"]
    assert [one.request_id for one in log.impressions(10.0, 30.0)] == ["early", "mid"]
    assert list(log.impressions(30.5, 99.0)) == []


def test_feedback_is_read_by_time_and_ties_by_id(log: EventLog) -> None:
    log.take([install("b", at=20.0), install("c", at=10.0), install("a", at=20.0)])

    assert [one.id for one in log.feedback(*EVER)] == ["c", "a", "b"]
    assert [one.id for one in log.feedback(10.0, 20.0)] == ["c"]


def test_many_pages_of_one_moment_are_read_without_a_gap_or_a_double(log: EventLog) -> None:
    names = [f"{number:04}" for number in range(2_300)]
    log.show(replace(impression(name, at=50.0), items=()) for name in names)
    log.take([install(name, at=50.0) for name in names])

    assert sorted(one.request_id for one in log.impressions(50.0, 51.0)) == names
    assert [one.id for one in log.feedback(50.0, 51.0)] == names


def test_events_are_claimed_in_the_order_taken_and_by_one_consumer_at_a_time(log: EventLog) -> None:
    log.take([install("b"), install("a"), install("c")])

    assert ids(log.claim("one", count=2, idle_s=30)) == ["b", "a"]
    assert ids(log.claim("two", count=2, idle_s=30)) == ["c"]
    assert ids(log.claim("two", count=2, idle_s=30)) == []


def test_what_is_settled_is_never_handed_out_again(log: EventLog, clock: Clock) -> None:
    log.take([install("a"), install("b")])
    log.claim("one", count=5, idle_s=30)
    log.settle(["a"])
    clock.advance(31)

    assert ids(log.claim("two", count=5, idle_s=30)) == ["b"]
    log.settle(["b", "b", "unheard"])
    clock.advance(31)
    assert ids(log.claim("two", count=5, idle_s=30)) == []
    assert log.counts().feedback == 2


def test_what_a_consumer_left_unsettled_is_handed_on_when_it_was_idle_long_enough(log: EventLog, clock: Clock) -> None:
    log.take([install("a")])
    log.claim("killed", count=5, idle_s=30)
    clock.advance(29)
    assert ids(log.claim("next", count=5, idle_s=30)) == []

    clock.advance(2)
    assert ids(log.claim("next", count=5, idle_s=30)) == ["a"]
    assert ids(log.claim("third", count=5, idle_s=30)) == []


def test_what_was_left_is_handed_on_before_what_came_after_it(log: EventLog, clock: Clock) -> None:
    log.take([install("old")])
    log.claim("killed", count=5, idle_s=30)
    log.take([install("new")])
    clock.advance(31)

    assert ids(log.claim("next", count=5, idle_s=30)) == ["old", "new"]


def test_a_forgotten_user_leaves_neither_impressions_nor_events(log: EventLog) -> None:
    log.show([impression("r1"), impression("r2", user_id="other")])
    log.take(
        [
            install("by_both"),
            install("by_request", user_id=None),
            install("by_name", request_id=None),
            install("of_other", user_id="other", request_id="r2"),
        ]
    )

    assert log.forget_user("u1") == 4

    assert [one.request_id for one in log.impressions(*EVER)] == ["r2"]
    assert [one.id for one in log.feedback(*EVER)] == ["of_other"]
    assert log.displayed(["r1"]) == {}
    assert ids(log.claim("one", count=9, idle_s=30)) == ["of_other"]
    assert log.forget_user("u1") == 0


def test_what_was_held_back_of_a_user_while_they_were_forgotten_is_not_kept(log: EventLog, clock: Clock) -> None:
    before = impression("r1", at=clock.now - 1), impression("r2", at=clock.now - 1, user_id="u2")
    log.forget_user("u1")
    clock.advance(0.5)

    assert log.show([*before, impression("r3", at=clock.now)]) == 2

    assert [one.request_id for one in log.impressions(*EVER)] == ["r2", "r3"]
    assert log.displayed(["r1"]) == {}


def test_whom_a_log_has_forgotten_it_knows_only_for_a_while(log: EventLog, clock: Clock) -> None:
    log.forget_user("u1")
    clock.advance(FORGOTTEN_KEPT_S + 1)
    log.trim(before=0.0, keep=LogCounts(100, 100))

    assert log.show([impression("r1", at=1.0)]) == 1


def test_the_id_of_a_forgotten_event_is_new_again(log: EventLog) -> None:
    log.take([install("e1")])
    log.forget_user("u1")

    assert log.take([install("e1")]) == (Taken.NEW,)


def test_what_is_older_is_trimmed(log: EventLog) -> None:
    log.show([impression("r1", at=10.0), impression("r2", at=20.0)])
    log.take([install("e1", at=19.9), install("e2", at=20.0)])

    assert log.trim(before=20.0, keep=LogCounts(100, 100)) == 2

    assert [one.request_id for one in log.impressions(*EVER)] == ["r2"]
    assert [one.id for one in log.feedback(*EVER)] == ["e2"]
    assert log.trim(before=20.0, keep=LogCounts(100, 100)) == 0


def test_what_is_left_after_a_trim_is_whole_in_whatever_order_it_came(log: EventLog) -> None:
    log.show(impression(f"r{at}", at=float(at)) for at in (900_000, 10, 450_000))

    assert log.trim(before=600_000.0, keep=LogCounts(100, 100)) == 2

    assert [one.request_id for one in log.impressions(*EVER)] == ["r900000"]


def test_impressions_past_the_newest_are_trimmed_and_their_events_are_not(log: EventLog) -> None:
    log.show(impression(f"r{at}", at=float(at)) for at in (30, 10, 40, 20))
    log.take([install("e1", at=10.0)])

    assert log.trim(before=0.0, keep=LogCounts(2, 2)) == 2

    assert [one.request_id for one in log.impressions(*EVER)] == ["r30", "r40"]
    assert log.counts() == LogCounts(impressions=2, feedback=1)


def test_events_past_the_newest_are_trimmed_with_all_that_leads_to_them(log: EventLog) -> None:
    log.show([impression("r1", at=10.0)])
    log.take([install(f"e{at}", at=float(at)) for at in (30, 10, 40, 20)])

    assert log.trim(before=0.0, keep=LogCounts(2, 2)) == 2

    assert [one.id for one in log.feedback(*EVER)] == ["e30", "e40"]
    assert ids(log.claim("one", count=5, idle_s=30)) == ["e30", "e40"]
    assert log.take([install("e10", at=10.0)]) == (Taken.NEW,)
    assert log.counts() == LogCounts(impressions=1, feedback=3)


def test_what_is_trimmed_is_no_longer_displayed_nor_claimed(log: EventLog) -> None:
    log.show([impression("r1", at=10.0)])
    log.take([install("e1", at=11.0)])
    log.trim(before=100.0, keep=LogCounts(100, 100))

    assert log.displayed(["r1"]) == {}
    assert log.claim("one", count=5, idle_s=30) == ()


def test_a_trim_of_very_many_takes_them_all(log: EventLog) -> None:
    log.take([install(f"e{number}", at=10.0) for number in range(10_000)])
    log.take([install("kept", at=30.0)])

    assert log.trim(before=20.0, keep=LogCounts(0, 100)) == 10_000
    assert log.counts().feedback == 1
