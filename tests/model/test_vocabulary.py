import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.query import NULL
from model.vocabulary import FIRST_ID, MISSING_ID, NULL_ID, UNKNOWN_ID, Quantiles, Vocabulary, hash_text


def test_values_below_the_minimum_count_become_unknown() -> None:
    vocabulary = Vocabulary.fit("f", {"often": 5, "rare": 1}, min_count=2)

    assert vocabulary.ids(["often", "rare", "never"]).tolist() == [FIRST_ID, UNKNOWN_ID, UNKNOWN_ID]
    assert vocabulary.counts[UNKNOWN_ID] == 1


def test_missing_null_and_unknown_are_told_apart() -> None:
    vocabulary = Vocabulary.fit("f", {"x": 1, None: 3, NULL: 2}, min_count=1)

    assert vocabulary.ids([None, NULL, "?"]).tolist() == [MISSING_ID, NULL_ID, UNKNOWN_ID]
    assert vocabulary.counts.tolist() == [0, 3, 2, 1]


def test_ids_follow_frequency_then_text_so_that_equal_logs_give_equal_vocabularies() -> None:
    vocabulary = Vocabulary.fit("f", {"b": 2, "a": 2, "c": 9}, min_count=1)

    assert vocabulary.values == ("c", "a", "b")


def test_a_values_hash_depends_on_its_field_and_text_alone() -> None:
    small = Vocabulary.fit("f", {"x": 1}, min_count=1)
    grown = Vocabulary.fit("f", {"y": 9, "x": 1}, min_count=1)

    assert small.hashes[small.index["x"]] == grown.hashes[grown.index["x"]]
    assert hash_text("f=x") != hash_text("g=x")


def test_the_value_in_the_ith_of_n_quantiles_becomes_i_minus_one_over_n_minus_one() -> None:
    quantiles = Quantiles.fit(np.arange(1.0, 101.0), quantiles=5)

    assert quantiles.boundaries == (20.0, 40.0, 60.0, 80.0)
    assert quantiles.normalise([1.0, 20.0, 20.5, 55.0, 100.0]).tolist() == [0.0, 0.0, 0.25, 0.5, 1.0]


def test_values_outside_the_training_range_stay_within_zero_and_one() -> None:
    quantiles = Quantiles.fit(np.arange(10.0), quantiles=4)

    assert quantiles.normalise([-1e9, 1e9]).tolist() == [0.0, 1.0]


def test_a_missing_number_takes_the_middle() -> None:
    assert Quantiles.fit(np.arange(10.0), quantiles=4).normalise([np.nan]).tolist() == [0.5]


def test_equal_boundaries_fold_into_one_so_that_rare_large_values_stay_apart() -> None:
    quantiles = Quantiles.fit(np.array([0.0] * 90 + [1.0] * 5 + [7.0] * 5), quantiles=20)

    assert quantiles.normalise([0.0, 1.0, 7.0]).tolist() == [0.0, 0.5, 1.0]


@pytest.mark.parametrize("values", [[], [3.0], [2.0] * 9])
def test_too_few_different_numbers_are_normalised_to_zero(values: list[float]) -> None:
    assert Quantiles.fit(np.array(values), quantiles=10).normalise([2.0]).tolist() == [0.0]


@given(st.lists(st.floats(-1e6, 1e6), min_size=1), st.integers(2, 30), st.floats(-1e7, 1e7), st.floats(-1e7, 1e7))
def test_normalisation_keeps_order_and_range(values: list[float], count: int, one: float, two: float) -> None:
    quantiles = Quantiles.fit(np.array(values), quantiles=count)

    low, high = quantiles.normalise(sorted([one, two])).tolist()

    assert 0 <= low <= high <= 1
