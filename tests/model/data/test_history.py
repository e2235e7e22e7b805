import numpy as np

from model.data.dataset import Dataset
from model.data.history import History, audience_of, history_of
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
