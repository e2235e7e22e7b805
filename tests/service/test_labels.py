"""Joining what was shown with what came back."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.schema import LogSpec
from service.labels import CLOCK_SKEW_S, Joined, JoinRule, join, positive_kinds
from service.store.log_ports import Feedback, Impression, Shown

HOUR = 3600.0
RULE = JoinRule(positive=("install",), window_s=HOUR, now=100 * HOUR)


def shown(request_id: str = "r1", *, at: float = HOUR, user_id: str = "u", apps: str = "ab") -> Impression:
    items = tuple(Shown(app, place, 0.5, {}, 0) for place, app in enumerate(apps, 1))
    return Impression(request_id, at, "v", user_id, {}, {}, {}, items)


def event(
    event_id: str = "e1", *, at: float = HOUR + 1, app: str = "a", kind: str = "install", request_id: str | None = "r1"
) -> Feedback:
    return Feedback(event_id, kind, at, at, app, "u", request_id, dated=True)


def labels(joined: Joined) -> dict[tuple[str, str], int]:
    rows = joined.examples.select("request_id", "app_id", "label").iter_rows()
    return {(request_id, app_id): label for request_id, app_id, label in rows}


def counted(joined: Joined) -> dict[str, int]:
    return {name: count for name, count in asdict(joined.counts).items() if count}


def test_a_shown_app_with_a_positive_event_is_positive_and_the_others_are_negative() -> None:
    joined = join([shown(apps="abc")], [event(app="b")], rule=RULE)
    assert joined.examples.select("app_id", "position", "label").rows() == [("a", 1, 0), ("b", 2, 1), ("c", 3, 0)]
    assert counted(joined) == {"positives": 1, "negatives": 2}


@pytest.mark.parametrize(
    ("at", "fate"),
    [
        (HOUR - CLOCK_SKEW_S, "positives"),
        (HOUR - CLOCK_SKEW_S - 1, "early"),
        (2 * HOUR, "positives"),
        (2 * HOUR + 1, "late"),
    ],
)
def test_an_event_counts_from_a_little_before_its_impression_to_the_end_of_the_window(at: float, fate: str) -> None:
    joined = join([shown()], [event(at=at)], rule=RULE)
    assert counted(joined)[fate] == 1
    assert labels(joined)["r1", "a"] == (fate == "positives")


def test_an_impression_whose_window_is_open_is_left_out_whole_even_if_it_has_a_positive() -> None:
    rule = replace(RULE, now=2 * HOUR)
    joined = join([shown(), shown("r2", at=HOUR - 1)], [event()], rule=rule)
    assert labels(joined) == {("r2", "a"): 0, ("r2", "b"): 0}
    assert counted(joined) == {"negatives": 2, "open": 2, "waiting": 1}


@pytest.mark.parametrize(
    "orphan",
    [
        event(request_id="never"),
        event(request_id=None),
        event(app="z"),
        replace(event(), user_id="another"),
    ],
    ids=["an unknown request", "no request", "an app that was not shown", "another user"],
)
def test_an_orphan_makes_no_label(orphan: Feedback) -> None:
    joined = join([shown()], [orphan], rule=RULE)
    assert counted(joined) == {"negatives": 2, "orphan": 1}


def test_an_event_need_not_name_its_user() -> None:
    assert join([shown()], [replace(event(), user_id=None)], rule=RULE).counts.positives == 1


def test_a_second_positive_of_the_same_app_and_an_event_id_seen_twice_are_duplicates() -> None:
    events = [event("e1"), event("e1"), event("e2", at=HOUR + 5), event("e3", app="b")]
    joined = join([shown()], events, rule=RULE)
    assert counted(joined) == {"positives": 2, "duplicate": 2}


def test_other_kinds_are_counted_and_letter_case_does_not_matter() -> None:
    joined = join([shown()], [event("e1", kind="click"), event("e2", kind="Install")], rule=RULE)
    assert counted(joined) == {"positives": 1, "negatives": 1, "other_kinds": 1}


def test_an_unknown_request_of_the_first_hours_may_lie_before_the_window() -> None:
    rule = replace(RULE, since=10 * HOUR)
    events = [event("e1", at=10.5 * HOUR, request_id="before"), event("e2", at=12 * HOUR, request_id="never")]
    assert counted(join([], events, rule=rule)) == {"outside": 1, "orphan": 1}


def test_nothing_shown_gives_no_examples() -> None:
    joined = join([], [], rule=RULE)
    assert joined.examples.is_empty()
    assert counted(joined) == {}


def test_the_kinds_that_are_positive_are_those_of_the_schema_or_installs() -> None:
    assert positive_kinds(LogSpec(positive=("purchase", "install"))) == ("purchase", "install")
    assert positive_kinds(LogSpec()) == ("install",)


IMPRESSIONS = st.builds(
    lambda number, at, user_id, apps: shown(f"r{number}", at=at, user_id=user_id, apps=apps),
    st.integers(0, 5),
    st.integers(0, 30).map(float),
    st.sampled_from(["u", "v"]),
    st.lists(st.sampled_from("abc"), unique=True, min_size=1).map("".join),
)
FEEDBACK = st.builds(
    lambda number, at, app, rest: Feedback(f"e{number}", rest[0], at, at, app, rest[1], rest[2], dated=True),
    st.integers(0, 20),
    st.integers(-10, 50).map(float),
    st.sampled_from("abc"),
    st.tuples(
        st.sampled_from(["install", "install", "click"]),
        st.sampled_from(["u", "u", "v", None]),
        st.sampled_from([*(f"r{number}" for number in range(6)), None]),
    ),
)


@given(
    st.lists(IMPRESSIONS, max_size=6, unique_by=lambda one: one.request_id),
    st.lists(FEEDBACK, max_size=15),
    st.integers(0, 40),
    st.sampled_from([float("-inf"), -8.0]),
)
def test_it_equals_a_naive_loop(
    impressions: list[Impression], feedback: list[Feedback], now: int, since: float
) -> None:
    rule = JoinRule(("install",), window_s=10.0, now=float(now), since=since)
    joined = join(impressions, feedback, rule=rule)
    expected, counts = naive(impressions, feedback, rule)
    assert labels(joined) == expected
    assert counted(joined) == {name: count for name, count in counts.items() if count}
    events = sum(counts.values()) - counts["negatives"] - counts["open"]
    assert events == len(feedback)


def naive(
    impressions: Sequence[Impression], feedback: Sequence[Feedback], rule: JoinRule
) -> tuple[dict[tuple[str, str], int], Counter[str]]:
    """The same one event at a time."""
    by_request = {one.request_id: one for one in impressions}
    found = {
        (one.request_id, item.app_id): 0
        for one in impressions
        for item in one.items
        if one.at + rule.window_s < rule.now
    }
    counts = Counter[str]()
    seen: set[str] = set()
    for one in sorted(feedback, key=lambda one: (one.at, one.id)):
        impression = by_request.get(one.request_id or "")
        fate = fate_of(one, impression, rule)
        if one.id in seen:
            fate = "duplicate"
        seen.add(one.id)
        key = one.request_id or "", one.app_id
        if fate == "positive":
            fate = "duplicate" if found[key] else "positives"
            found[key] = 1
        counts[fate] += 1
    counts["negatives"] = sum(label == 0 for label in found.values())
    counts["open"] = sum(len(one.items) for one in impressions) - len(found)
    return found, counts


def fate_of(one: Feedback, impression: Impression | None, rule: JoinRule) -> str:
    if one.kind not in rule.positive:
        return "other_kinds"
    if impression is None or one.app_id not in {item.app_id for item in impression.items}:
        return "outside" if one.at <= rule.since + rule.window_s else "orphan"
    if one.user_id not in (None, impression.user_id):
        return "orphan"
    if impression.at + rule.window_s >= rule.now:
        return "waiting"
    if one.at < impression.at - CLOCK_SKEW_S:
        return "early"
    return "late" if one.at > impression.at + rule.window_s else "positive"
