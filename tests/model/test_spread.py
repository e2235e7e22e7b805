import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.spread import KeyCounts, Spread
from model.vocabulary import Quantiles

NUMBERS = st.lists(st.sampled_from([float("nan"), float("inf"), -1.0, 0.0, 0.5, 2.0, 7.0]), max_size=30)


@given(st.lists(NUMBERS, min_size=1, max_size=5), st.integers(2, 30))
def test_pieces_have_the_quantiles_of_the_whole(pieces: list[list[float]], count: int) -> None:
    spread, whole = Spread(), np.array([value for piece in pieces for value in piece])
    for piece in pieces:
        spread.add(np.array(piece))

    assert spread.quantiles(count) == Quantiles.fit(whole, quantiles=count)


@given(st.lists(st.tuples(st.floats(-9, 9), st.integers(0, 5)), max_size=30))
def test_a_value_with_a_count_is_as_many_values(given_counts: list[tuple[float, int]]) -> None:
    spread, values = Spread(), np.array([value for value, _ in given_counts])
    counts = np.array([count for _, count in given_counts], dtype=np.int64)
    spread.add(values[counts > 0], counts[counts > 0])

    assert spread.quantiles(7) == Quantiles.fit(values.repeat(counts), quantiles=7)


def test_more_values_than_are_kept_leave_the_quantiles_nearly_where_they_are() -> None:
    values = np.random.default_rng(0).lognormal(size=200_000)
    spread = Spread(most=4000)
    for piece in np.split(values, 100):
        spread.add(piece)

    bounds = np.array(spread.quantiles(100).boundaries)

    assert len(spread._values) <= 4000
    shares = np.searchsorted(np.sort(values), bounds) / len(values)
    assert np.abs(shares - np.arange(1, 100) / 100).max() < 0.01


@pytest.mark.parametrize("at_once", [1, 5, 1000])
def test_keys_are_counted_over_all_pieces(at_once: int) -> None:
    keys = np.random.default_rng(1).integers(-20, 20, 500)
    counts = KeyCounts(at_once=at_once)
    for piece in np.split(keys, 10):
        counts.add(piece)

    found, often = counts.counted()

    distinct, expected = np.unique(keys, return_counts=True)
    assert found.tolist() == distinct.tolist()
    assert often.tolist() == expected.tolist()


def test_nothing_has_no_quantiles() -> None:
    assert Spread().quantiles(5) == Quantiles(())
    assert len(KeyCounts().counted()[0]) == 0
