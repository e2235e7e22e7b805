"""What rows know of all users, against loops over the log that say it in so many words."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data import together
from model.data.dataset import HISTORY, LOGGED, Dataset
from model.data.history import History, history_of
from model.data.past import past_of
from model.data.replay import with_history
from model.data.stored_past import keep_past
from model.population import PRIOR_USERS, population_fields
from tests.model.worlds import COUNTED, dataset

NOW, BESIDE = "in_context.daytime", "similar"
Row = Mapping[str, Any]

EVENTS = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from("uvwx"),
        "app_id": st.sampled_from("abcd"),
        "label": st.integers(0, 1),
        "daytime": st.sampled_from(["noon", "night", None]),
        "split": st.sampled_from(["train", "train", "gate"]),
        "at": st.integers(0, 15),
    }
)


def known(data: Dataset, rows: pl.DataFrame | None = None) -> History:
    fields = population_fields(COUNTED)
    return history_of(data, data.examples if rows is None else rows, max_values=2, fields=fields)


def log(rows: Sequence[Row], *, timed: bool = False) -> Dataset:
    return dataset([row if timed else {**row, "at": None} for row in rows], timed=timed, schema=COUNTED)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(EVENTS, min_size=1, max_size=40))
def test_without_times_it_equals_a_loop_that_leaves_the_rows_own_event_out(rows: list[Row]) -> None:
    found = known(log(rows))

    for place, asked in enumerate(rows):
        others = [row for at, row in enumerate(rows) if at != place and row["label"] and row["split"] == "train"]
        assert found.measures[NOW][place] == _users_now(others, asked)
        assert found.measures[BESIDE][place] == pytest.approx(_similar(others, others, asked), abs=1e-7)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(EVENTS, min_size=1, max_size=40))
def test_with_times_it_equals_a_loop_over_what_was_before(rows: list[Row]) -> None:
    data = log(rows, timed=True)
    found = known(data)

    bounds = past_of(data).together.bounds
    for place, asked in enumerate(rows):
        earlier = [row for row in rows if row["label"] and row["at"] < asked["at"]]
        moment = bounds[bounds <= asked["at"] * 1_000_000].max()
        settled = [row for row in earlier if row["at"] * 1_000_000 < moment]
        assert found.measures[NOW][place] == _users_now(earlier, asked)
        assert found.measures[BESIDE][place] == pytest.approx(_similar(earlier, settled, asked), abs=1e-7)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(EVENTS, min_size=2, max_size=30), timed=st.booleans())
def test_no_row_sees_its_own_label(rows: list[Row], timed: bool) -> None:
    told = known(log(rows, timed=timed))
    turned = known(log([{**rows[0], "label": 1 - rows[0]["label"]}, *rows[1:]], timed=timed))

    if not timed:  # where windows begin follows from all events, as the times of a log do
        assert told.measures[BESIDE][0] == pytest.approx(turned.measures[BESIDE][0])
    assert told.measures[NOW][0] == turned.measures[NOW][0]


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(EVENTS, min_size=1, max_size=40))
def test_with_times_what_comes_later_changes_nothing_about_users_now(rows: list[Row]) -> None:
    last = max(row["at"] for row in rows)
    whole = known(log(rows, timed=True))
    later = [{**row, "at": last + 1 + row["at"]} for row in rows]

    assert known(log([*rows, *later], timed=True)).measures[NOW][: len(rows)].tolist() == whole.measures[NOW].tolist()


@pytest.mark.parametrize("timed", [False, True])
def test_a_piece_of_the_rows_knows_what_it_knows_among_all(timed: bool) -> None:
    data = log(_random_rows(200), timed=timed)
    whole, parts = known(data), [known(data, data.examples[start : start + 30]) for start in range(0, 200, 30)]

    for name in (NOW, BESIDE):
        assert np.concatenate([part.measures[name] for part in parts]).tolist() == whole.measures[name].tolist()


@pytest.mark.parametrize("timed", [False, True])
def test_pairs_counted_a_few_users_at_a_time_add_up(timed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = _random_rows(300)
    whole = known(log(rows, timed=timed))
    monkeypatch.setattr(together, "PAIRS_AT_ONCE", 10)

    assert known(log(rows, timed=timed)).measures[BESIDE].tolist() == whole.measures[BESIDE].tolist()
    assert whole.measures[BESIDE].any()


def test_a_user_of_too_many_apps_is_not_counted_and_knows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"user_id": user, "app_id": app, "label": 1} for user, apps in (("u", "abcd"), ("v", "ab"), ("w", "a"))
            for app in apps]  # fmt: skip
    rows += [{"user_id": "w", "app_id": "b", "label": 0}, {"user_id": "u", "app_id": "b", "label": 0}]
    monkeypatch.setattr(together, "MOST_APPS", 3)

    beside = known(log(rows)).measures[BESIDE]

    assert beside[-2] == pytest.approx(1 / (1 + PRIOR_USERS))  # of those who have a, v has b, and u is not asked
    assert beside[-1] == 0


def test_where_there_are_too_many_pairs_each_app_keeps_those_nearest_to_it() -> None:
    data = log([{"user_id": f"{user}", "app_id": app, "label": 1} for user, apps in enumerate(
        ["ab", "ab", "ab", "ac", "bc", "bd", "cd"]) for app in apps])  # fmt: skip
    whole = past_of(data).together

    kept = whole.nearest(1).neighbours()

    pairs = {
        (place, int(near)) for place in range(4) for near in kept.apps[kept.starts[place] : kept.starts[place + 1]]
    }
    assert {(0, 1), (1, 0), (2, 3), (3, 2)} <= pairs
    assert len(pairs) < len(whole.neighbours().apps)
    assert whole.nearest(3) is whole


def test_what_was_logged_is_taken_and_what_was_not_is_computed() -> None:
    rows = [
        {"user_id": "u", "app_id": "a", "label": 1, "at": 1},
        {"user_id": "v", "app_id": "a", "label": 1, "at": 2},
        {"user_id": "v", "app_id": "b", "label": 1, "at": 3},
        {"user_id": "u", "app_id": "b", "label": 0, "at": 9},
        {"user_id": "u", "app_id": "b", "label": 0, "at": 9},
    ]
    computed = known(log(rows, timed=True)).measures
    told = [None, None, None, [{"name": NOW, "value": 40.0}, {"name": BESIDE, "value": 0.5}], None]
    histories = [None, None, None, [], [{"app_id": "a", "count": 1}]]
    data = log(rows, timed=True)
    logged = pl.Series("measures", told, dtype=LOGGED["measures"]), pl.Series("history", histories, dtype=HISTORY)

    found = known(replace(data, examples=data.examples.with_columns(*logged))).measures

    assert found[NOW].tolist() == [0, 1, 0, 40, 1]
    assert found[BESIDE][3:].tolist() == [0.5, computed[BESIDE][4]]
    assert computed[BESIDE][4] > 0


@pytest.mark.parametrize("label", [0, 1])
def test_a_logged_row_that_was_scored_without_measures_does_not_see_its_own_label(label: int) -> None:
    rows = [
        {"user_id": "u", "app_id": "b", "label": label, "at": 9},
        {"user_id": "v", "app_id": "a", "label": 1, "at": 5},
        {"user_id": "v", "app_id": "b", "label": 1, "at": 5},
    ]
    data = log(rows, timed=True)
    histories = pl.Series("history", [[{"app_id": "a", "count": 1}], [], []], dtype=HISTORY)
    now = {"u": ["a", *(["b"] if label else [])], "v": ["a", "b"]}  # a service's log comes with what its users have now
    users = data.users.with_columns(pl.Series("installed", [now[user] for user in data.users["user_id"]]))

    found = known(replace(data, examples=data.examples.with_columns(histories), users=users)).measures

    assert found[BESIDE][0] == pytest.approx(1 / (1 + PRIOR_USERS))


def logged(asked: Sequence[Row], now: Mapping[str, Sequence[str]]) -> Dataset:
    """A service's log that kept no measures. asked: rows, each with the `history` it was scored with."""
    data = log([{name: value for name, value in row.items() if name != "history"} for row in asked], timed=True)
    told = [[{"app_id": app, "count": 1} for app in row["history"]] for row in asked]
    users = data.users.with_columns(pl.Series("installed", [[*now[user]] for user in data.users["user_id"]]))
    return replace(data, examples=data.examples.with_columns(pl.Series("history", told, dtype=HISTORY)), users=users)


@pytest.mark.parametrize(
    ("theirs", "seen"),
    [
        ((), 0),  # v installed b after the log, or elsewhere, and nothing tells when
        (({"at": 12, "app_id": "b", "label": 1, "history": ["a"]},), 0),
        (({"at": 12, "app_id": "c", "label": 0, "history": ["a", "b"]},), 0),
        (({"at": 5, "app_id": "b", "label": 1, "history": ["a"]},), 1),
        (({"at": 5, "app_id": "c", "label": 0, "history": ["a", "b"]},), 1),
    ],
)
@pytest.mark.parametrize("in_files", [False, True])
def test_a_logged_row_without_measures_does_not_see_what_others_installed_later(
    theirs: Sequence[Row], seen: int, in_files: bool, tmp_path: Path
) -> None:
    mine = {"user_id": "u", "app_id": "b", "label": 0, "at": 9, "history": ["a"]}
    first = {"user_id": "v", "app_id": "c", "label": 0, "at": 2, "history": ["a"]}
    others = [{"user_id": "v", **row} for row in theirs]
    aside: list[Row] = [{"user_id": "w", "app_id": "d", "label": 1, "at": at, "history": []} for at in (1, 3, 6, 8)]

    data = logged([mine, first, *others, *aside], {"u": ["a"], "v": ["a", "b"], "w": ["d"]})

    if in_files:
        keep_past(data, tmp_path / "events")
    found = known(data)
    assert found.measures[BESIDE][0] == pytest.approx(seen / (1 + PRIOR_USERS))
    assert found.others[0] == seen
    assert min(found.others) == 0
    assert past_of(data).audience.rows() == [("a", 2), ("b", 1), ("d", 1)]


def test_what_a_user_had_at_the_first_row_that_tells_it_was_there_before() -> None:
    mine = {"user_id": "u", "app_id": "b", "label": 0, "at": 1, "history": ["a"]}
    theirs = {"user_id": "v", "app_id": "c", "label": 0, "at": 8, "history": ["a", "b"]}

    found = known(logged([mine, theirs, {**mine, "at": 9, "label": 1}], {"u": ["a", "b"], "v": ["a", "b"]}))

    assert found.measures[BESIDE][[0, 2]] == pytest.approx(1 / (1 + PRIOR_USERS))


@pytest.mark.parametrize("timed", [False, True])
def test_old_rows_keep_what_they_knew_of_all_users_among_other_rows(timed: bool) -> None:
    data = log(_random_rows(80), timed=timed)
    before = known(data).measures

    frozen = with_history(data, data.examples)
    again = known(replace(data, examples=frozen.filter(pl.col("user_id") == "u"), users=data.users.head(0))).measures

    theirs = (data.examples["user_id"] == "u").to_numpy()
    for name in (NOW, BESIDE):
        assert again[name].tolist() == before[name][theirs].tolist()


def test_a_field_that_no_row_has_is_missing_everywhere() -> None:
    data = log([{"user_id": user, "app_id": "a", "label": 1} for user in "uvw"])
    without = replace(data, examples=data.examples.drop("daytime"))

    assert known(without).measures[NOW].tolist() == [2, 2, 2]


def test_no_rows_and_no_events_know_nothing() -> None:
    empty = known(log([{"user_id": "u", "app_id": "a", "label": 0}, {"user_id": "v", "app_id": "b", "label": 0}]))

    assert [values.tolist() for values in empty.measures.values()] == [[0, 0], [0, 0]]
    assert len(known(log(_random_rows(5)), log(_random_rows(5)).examples.head(0)).measures[BESIDE]) == 0


def _users_now(events: Sequence[Row], asked: Row) -> int:
    """Distinct users of the app under the row's daytime."""
    return len({row["user_id"] for row in events if all(row[name] == asked[name] for name in ("app_id", "daytime"))})


def _similar(mine: Sequence[Row], settled: Sequence[Row], asked: Row) -> float:
    """mine: what the row's user is known to have done; settled: what everybody is, where only others count."""
    history = {row["app_id"] for row in mine if row["user_id"] == asked["user_id"]} - {asked["app_id"]}
    apps = {user: {row["app_id"] for row in settled if row["user_id"] == user} for user in "uvwx"}
    history = {app for app in history if any(app in had for had in apps.values())}
    others = [had for user, had in apps.items() if user != asked["user_id"]]
    shares = [
        sum({app, asked["app_id"]} <= had for had in others) / (sum(app in had for had in others) + PRIOR_USERS)
        for app in history
    ]
    return sum(shares) / len(shares) if shares else 0.0


def _random_rows(count: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(3)
    return [
        {
            "user_id": "uvwx"[rng.integers(4)],
            "app_id": "abcd"[rng.integers(4)],
            "label": int(rng.integers(2)),
            "daytime": ["noon", "night", None][rng.integers(3)],
            "split": ["train", "gate"][rng.integers(2)],
            "at": int(rng.integers(50)),
        }
        for _ in range(count)
    ]
