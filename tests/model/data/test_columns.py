"""The rules of `model.query`, column by column."""

import json
import math
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model import query
from model.data.columns import Column, canonical, places
from model.schema import Kind

texts = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(["x" * 512, "x" * 513, "a\x00b", "\x7f"])
scalars = st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts | st.just(10**400)
values = scalars | st.lists(scalars, max_size=3)
RULES = {Kind.CATEGORICAL: query.categorical, Kind.CONTINUOUS: query.continuous, Kind.MULTI: query.multi}


def refused(rule: Any, value: object) -> bool:  # noqa: ANN401 - one of three signatures
    try:
        rule(value)
    except (query.ValueRefused, OverflowError):
        return True
    return False


def same(one: object, other: object) -> bool:
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other


@pytest.mark.parametrize("kind", Kind)
@given(st.lists(values, min_size=1, max_size=6))
def test_a_column_of_objects_is_judged_as_each_value_alone(kind: Kind, given_values: list[object]) -> None:
    column = canonical(pl.Series(given_values, dtype=pl.Object), kind)
    for value, got, why in zip(given_values, column.values, column.why, strict=True):
        expected = refused(RULES[kind], value)
        assert (why is not None) == expected
        result = got.to_list() if isinstance(got, pl.Series) else got
        assert result is None if expected else same(result, RULES[kind](value))


@given(st.lists(st.none() | texts, min_size=1))
def test_a_typed_column_of_texts_is_judged_as_objects_are(given_values: list[str | None]) -> None:
    typed = canonical(pl.Series(given_values, dtype=pl.String), Kind.CATEGORICAL)
    objects = canonical(pl.Series(given_values, dtype=pl.Object), Kind.CATEGORICAL)
    assert typed.values.to_list() == objects.values.to_list()
    assert typed.why.to_list() == objects.why.to_list()


@given(st.lists(st.none() | st.lists(st.none() | texts, max_size=3), min_size=1))
def test_a_typed_column_of_lists_is_judged_as_objects_are(given_values: list[list[str] | None]) -> None:
    typed = canonical(pl.Series(given_values, dtype=pl.List(pl.String)), Kind.MULTI)
    objects = canonical(pl.Series(given_values, dtype=pl.Object), Kind.MULTI)
    assert typed.values.to_list() == objects.values.to_list()
    assert typed.why.to_list() == objects.why.to_list()


@given(st.lists(st.none() | st.floats(), min_size=1))
def test_a_number_is_kept_or_refused_and_null_is_nan(given_values: list[float | None]) -> None:
    column = canonical(pl.Series(given_values, dtype=pl.Float64), Kind.CONTINUOUS)
    for value, got, why in zip(given_values, column.values, column.why, strict=True):
        if value is None:
            assert math.isnan(got)
        elif math.isfinite(value):
            assert got == value
        else:
            assert got is None
            assert why == "NaN or infinity where a finite number is allowed"


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_numbers_written_as_text_are_read_back(numbers: list[float]) -> None:
    column = canonical(pl.Series([json.dumps(number) for number in numbers]), Kind.CONTINUOUS, textual=True)
    assert column.values.to_list() == numbers


def test_text_is_a_number_only_where_the_file_knows_no_types() -> None:
    raw = pl.Series(["1.5", " 2 ", "two", "nan"])
    assert canonical(raw, Kind.CONTINUOUS, textual=True).values.to_list() == [1.5, 2.0, None, None]
    assert canonical(raw, Kind.CONTINUOUS).values.to_list() == [None] * 4


def test_text_is_cut_into_a_list_where_the_file_knows_no_types() -> None:
    column = canonical(pl.Series(["a|b", None, "c"]), Kind.MULTI, textual=True)
    assert column.values.to_list() == [["a", "b"], None, ["c"]]


def test_one_bad_item_makes_the_list_bad_and_its_neighbours_stay() -> None:
    column = canonical(pl.Series([["a"], ["b", "c\x01"], []]), Kind.MULTI)
    assert column.values.to_list() == [["a"], None, []]
    assert column.why.to_list() == [None, "a control character in a text", None]


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("dtype", [pl.String, pl.Int64, pl.Float64, pl.Object, pl.Null, pl.List(pl.String), pl.Date])
def test_a_column_without_rows_is_judged_to_nothing(kind: Kind, dtype: Any) -> None:  # noqa: ANN401 - polars types
    column = canonical(pl.Series([], dtype=dtype), kind)
    assert (len(column.values), len(column.why)) == (0, 0)


def test_floats_are_no_category_and_the_reason_names_the_type() -> None:
    column: Column = canonical(pl.Series([1.0, None]), Kind.CATEGORICAL)
    assert column.why.to_list() == ["Float64 where a text, a whole number or a boolean is allowed", None]
    assert column.values.to_list() == [None, query.NULL]


def test_places_are_whole_numbers_from_one_and_may_be_missing() -> None:
    judged = places(pl.Series([1, 20, None], dtype=pl.Int64))
    assert judged.values.dtype == pl.Int32
    assert (judged.values.to_list(), judged.why.count()) == ([1, 20, None], 0)
    assert places(pl.Series(["3", " 4 "]), textual=True).values.to_list() == [3, 4]


@pytest.mark.parametrize("value", [0, -1, 1.5, 2**31, float("nan"), float("inf"), "second", True])
def test_what_is_no_place_is_a_fault(value: object) -> None:
    judged = places(pl.Series([value], dtype=pl.Object))
    assert (judged.values.to_list(), judged.why.count()) == ([None], 1)
