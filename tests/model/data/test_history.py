from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl

from model.data.dataset import HISTORY, LOGGED, Dataset
from model.data.history import History, audience_of, history_of
from model.data.replay import with_history
from tests.model.worlds import dataset


def history(data: Dataset, *, max_values: int = 10) -> History:
    return history_of(data, data.examples, max_values=max_values)


def test_without_time_a_row_leaves_out_its_own_event_and_keeps_the_app_used_at_other_times() -> None:
    data = dataset(
        [
            {"user_id": "u", "app_id": "a", "label": 1},
            {"user_id": "u", "app_id": "a", "label": 1},
            {"user_id": "u", "app_id": "b", "label": 1},
            {"user_id": "u", "app_id": "c", "label": 0},
        ]
    )

    known = history(data)

    assert known.installed.to_list() == [["a", "b"], ["a", "b"], ["a"], ["a", "b"]]
    assert known.uses.tolist() == [1, 1, 0, 0]


def test_without_time_only_training_positives_are_known_and_a_held_out_row_leaves_nothing_out() -> None:
    data = dataset(
        [
            {"user_id": "u", "app_id": "a", "label": 1},
            {"user_id": "u", "app_id": "a", "label": 1, "split": "gate"},
            {"user_id": "u", "app_id": "b", "label": 1, "split": "stop"},
        ]
    )

    known = history(data)

    assert known.installed.to_list() == [[], ["a"], ["a"]]
    assert known.uses.tolist() == [0, 1, 0]


def test_with_time_a_row_knows_strictly_earlier_events_only() -> None:
    data = dataset(
        [
            {"user_id": "u", "app_id": "a", "label": 1, "at": 10},
            {"user_id": "u", "app_id": "b", "label": 1, "at": 20},
            {"user_id": "u", "app_id": "a", "label": 0, "at": 20},
            {"user_id": "u", "app_id": "a", "label": 1, "at": 30, "split": "gate"},
        ],
        timed=True,
    )

    known = history(data)

    assert known.installed.to_list() == [[], ["a"], ["a"], ["a", "b"]]
    assert known.uses.tolist() == [0, 0, 1, 1]


def test_other_users_of_an_app_are_counted_once_each_and_the_asking_user_never() -> None:
    events = [("u", "a"), ("v", "a"), ("v", "a"), ("w", "a"), ("w", "b")]
    data = dataset([{"user_id": user, "app_id": app, "label": 1} for user, app in events])

    assert history(data).others.tolist() == [2, 2, 2, 2, 0]
    assert audience_of(data) == {"a": 3, "b": 1}


def test_with_time_only_users_who_came_before_are_counted() -> None:
    times = [("u", 1), ("v", 2), ("w", 2), ("x", 3)]
    data = dataset([{"user_id": user, "app_id": "a", "label": 1, "at": at} for user, at in times], timed=True)

    assert history(data).others.tolist() == [0, 1, 1, 3]


def test_a_field_named_like_a_working_column_changes_nothing() -> None:
    rows = [{"user_id": user, "app_id": "a", "label": 1} for user in "uvw"]
    data = dataset([{**row, "users": 1000.0, "own_app": "z", "count": 7, "row": 9} for row in rows])

    assert history(data).others.tolist() == [2, 2, 2]
    assert history(data).uses.tolist() == [0, 0, 0]


def test_no_rows_know_nothing() -> None:
    data = dataset([{"user_id": "u", "app_id": "a", "label": 1}])

    assert len(history_of(data, data.examples.head(0), max_values=5).installed) == 0


def test_the_most_used_apps_are_kept_where_there_are_too_many() -> None:
    rows = [{"user_id": "u", "app_id": app, "label": 1} for app in "abbccc"]
    data = dataset([*rows, {"user_id": "u", "app_id": "d", "label": 0}])

    assert history(data, max_values=2).installed.to_list()[-1] == ["c", "b"]


def test_it_equals_a_naive_loop_on_random_logs() -> None:
    rng = np.random.default_rng(5)
    for timed in (False, True):
        rows = [
            {
                "user_id": f"u{rng.integers(4)}",
                "app_id": "abcd"[rng.integers(4)],
                "label": int(rng.integers(2)),
                "at": int(rng.integers(20)),
                "split": ["train", "train", "gate"][rng.integers(3)],
            }
            for _ in range(120)
        ]
        data = dataset([row if timed else {**row, "at": None} for row in rows], timed=timed)
        known = history(data)

        for place, row in enumerate(rows):
            expected = _naive(rows, place, timed)
            assert set(known.installed[place].to_list()) == set(expected)
            assert known.uses[place] == expected.get(str(row["app_id"]), 0)
            assert known.others[place] == _naive_others(rows, place, timed)


def _naive(rows: list[dict[str, object]], place: int, timed: bool) -> dict[str, int]:
    asked, counts = rows[place], dict[str, int]()
    for other, row in enumerate(rows):
        earlier = row["at"] < asked["at"] if timed else other != place and row["split"] == "train"  # type: ignore[operator]  # ints
        if row["user_id"] == asked["user_id"] and row["label"] == 1 and earlier:
            counts[str(row["app_id"])] = counts.get(str(row["app_id"]), 0) + 1
    return counts


def _naive_others(rows: list[dict[str, object]], place: int, timed: bool) -> int:
    asked = rows[place]
    known = [row for row in rows if row["label"] == 1 and row["app_id"] == asked["app_id"]]
    if timed:
        known = [row for row in known if row["at"] < asked["at"]]  # type: ignore[operator]  # ints
    else:
        known = [row for row in known if row["split"] == "train"]
    return len({row["user_id"] for row in known} - {asked["user_id"]})


LOGGED_ROWS = [
    {"user_id": "u", "app_id": "a", "label": 1, "history": [("b", 3), ("a", 2)], "uses": 2.0, "others": 7.0},
    {"user_id": "u", "app_id": "b", "label": 1},
    {"user_id": "v", "app_id": "a", "label": 1, "history": [], "uses": 0.0, "others": 0.0},
    {"user_id": "u", "app_id": "a", "label": 0, "history": [("c", 1), ("a", 5)]},
]


def with_logged(rows: Sequence[Mapping[str, Any]]) -> Dataset:
    """A dataset of rows, some of which have what they were scored with."""
    blank = dict.fromkeys(LOGGED)
    full = [{**blank, **row} for row in rows]
    entries = [row["history"] and [{"app_id": app, "count": uses} for app, uses in row["history"]] for row in full]
    data = dataset([{key: value for key, value in row.items() if key not in LOGGED} for row in full])
    columns = [pl.Series(name, [row[name] for row in full], dtype=LOGGED[name]) for name in LOGGED if name != "history"]
    return replace(data, examples=data.examples.with_columns(pl.Series("history", entries, dtype=HISTORY), *columns))


def test_what_was_logged_with_a_row_is_taken_and_the_rest_is_computed() -> None:
    data = with_logged(LOGGED_ROWS)
    known = history(data)

    assert known.installed.to_list() == [["b", "a"], ["a"], [], ["c", "a"]]
    assert known.uses.tolist() == [2, 0, 0, 5]
    assert known.others.tolist() == [7, 0, 0, 1]


def test_a_row_scored_with_another_app_counts_its_uses_in_its_own_history() -> None:
    data = with_logged([{**row, "uses": None, "others": None} for row in LOGGED_ROWS])
    without = replace(data, examples=data.examples.drop("uses", "others"))

    assert history(data).uses.tolist() == history(without).uses.tolist() == [2, 0, 0, 5]


def test_a_logged_history_is_cut_to_what_a_field_holds_but_its_counts_are_not() -> None:
    known = history(with_logged(LOGGED_ROWS), max_values=1)

    assert known.installed.to_list() == [["b"], ["a"], [], ["c"]]
    assert known.uses[0] == 2


def test_old_rows_keep_what_they_knew_among_other_rows() -> None:
    events = [("u", "a"), ("u", "b"), ("v", "a"), ("v", "a"), ("w", "c")]
    data = dataset([{"user_id": user, "app_id": app, "label": 1} for user, app in events])
    known = history(data)

    frozen = with_history(data, data.examples)
    elsewhere = replace(data, examples=frozen.filter(pl.col("user_id") != "u"), users=data.users.head(0))
    again = history(elsewhere)

    assert again.installed.to_list() == known.installed.to_list()[2:]
    assert again.uses.tolist() == known.uses.tolist()[2:]
    assert again.others.tolist() == known.others.tolist()[2:]


def test_a_field_that_is_only_named_like_a_logged_column_is_not_taken_for_one() -> None:
    rows = [{"user_id": user, "app_id": "a", "label": 1} for user in "uv"]
    data = dataset([{**row, "uses": 99.0, "others": 99.0, "history": "modern"} for row in rows])

    assert history(data).uses.tolist() == [0, 0]
    assert history(data).others.tolist() == [1, 1]
