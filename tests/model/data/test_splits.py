from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.report import ImportRefused
from model.data.splits import SPLITS, Shares, at_random, by_column, by_time, row_keys, split_names

START = datetime(2024, 1, 1, tzinfo=UTC)
MANY = 20_000
GOLDEN = [15555251870875262459, 5689158772285901137]


def at(hours: list[int]) -> pl.Series:
    return pl.Series("at", [START + timedelta(hours=hour) for hour in hours])


def keys_of(count: int) -> pl.Series:
    return pl.Series([f"u{number % 50}" for number in range(count)])


def shares_of(split: pl.Series) -> list[float]:
    return [int((split == name).sum()) / len(split) for name in SPLITS]


def test_time_cuts_the_oldest_eight_in_ten_then_one_then_one() -> None:
    assert shares_of(by_time(at(list(range(100))), Shares())) == [0.8, 0.1, 0.1]


@given(st.lists(st.integers(0, 12), min_size=3, max_size=60).filter(lambda hours: len(set(hours)) >= 3))
def test_no_time_straddles_two_splits_and_each_split_has_rows(hours: list[int]) -> None:
    split = by_time(at(hours), Shares())
    seen = {
        name: {hour for hour, given_name in zip(hours, split, strict=True) if given_name == name} for name in SPLITS
    }
    assert all(seen.values())
    assert max(seen["train"]) < min(seen["stop"])
    assert max(seen["stop"]) < min(seen["gate"])


def test_too_few_distinct_times_are_refused_with_the_way_out() -> None:
    with pytest.raises(ImportRefused, match=r"2 distinct times.*take `at` out"):
        by_time(at([1, 1, 2]), Shares())


def test_a_split_column_knows_its_four_names() -> None:
    column = split_names(pl.Series(["train", "valid", "test", None]))
    assert column.values.to_list() == ["train", "valid", None, None]
    assert column.why.to_list() == [None, None, *["none of train, stop, valid, gate"] * 2]


def test_valid_alone_is_halved_and_train_untouched() -> None:
    names = pl.Series(["train", "valid"] * (MANY // 2))
    split = by_column(names, row_keys(keys_of(MANY), pl.arange(MANY, eager=True)))
    assert (split.filter(names == "train") == "train").all()
    assert shares_of(split) == pytest.approx([0.5, 0.25, 0.25], abs=0.01)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train", "valid", "gate"], ["train", "stop", "gate"]),
        (["train", "stop", "valid"], ["train", "stop", "gate"]),
        (["train", "stop", "gate"], ["train", "stop", "gate"]),
    ],
)
def test_valid_stands_for_the_split_that_is_lacking(names: list[str], expected: list[str]) -> None:
    keys = row_keys(keys_of(3), pl.arange(3, eager=True))
    assert by_column(pl.Series(names), keys).to_list() == expected


def test_random_splits_have_their_shares_and_never_change() -> None:
    keys = row_keys(keys_of(MANY), pl.arange(MANY, eager=True))
    split = at_random(keys, Shares(0.6, 0.3))
    assert shares_of(split) == pytest.approx([0.6, 0.3, 0.1], abs=0.015)
    assert row_keys(pl.Series(["u1", "u2"]), pl.Series([1, 2])).tolist() == GOLDEN


def test_keys_tell_rows_and_users_apart() -> None:
    rows, users = pl.Series([1, 2, 1]), pl.Series(["u", "u", "v"])
    assert len(set(row_keys(users, rows).tolist())) == 3


@pytest.mark.parametrize("shares", [(0.0, 0.1), (0.9, 0.1), (0.8, 0.0)])
def test_shares_that_leave_a_split_empty_are_refused(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="both above 0, together below 1"):
        Shares(*shares)
