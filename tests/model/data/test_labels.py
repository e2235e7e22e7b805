from typing import Any

import polars as pl
import pytest

from model.data.labels import labels
from model.schema import LogSpec
from tests.model.data.logs import positives_only

INSTALLS = ("install",)


def judged(values: list[Any], log: LogSpec) -> list[int | str | None]:
    column = labels(pl.Series(values), log)
    return [value if why is None else why for value, why in zip(column.values, column.why, strict=True)]


@pytest.mark.parametrize("values", [[1, 0], [True, False], [1.0, 0.0], ["1", "0"], ["True", "FALSE"], ["1.0", " 0 "]])
def test_ones_and_zeros_are_known_in_every_way_they_are_written(values: list[Any]) -> None:
    assert judged(values, LogSpec()) == [1, 0]


@pytest.mark.parametrize("value", [2, -1, "yes", ""])
def test_a_label_that_is_neither_is_a_fault(value: object) -> None:
    assert judged([value], LogSpec()) == ["a label that is none of 1, true, 0, false"]


def test_a_label_that_is_not_there_is_a_fault() -> None:
    assert judged(["1", None], LogSpec()) == [1, "missing"]


def test_a_label_of_a_wrong_type_is_a_fault() -> None:
    assert judged([0.5], LogSpec()) == ["Float64 where a text, a whole number or a boolean is allowed"]


def test_other_kinds_of_event_are_negative_in_a_log_that_has_its_own() -> None:
    assert judged(["Install", "impression"], LogSpec(positive=INSTALLS)) == [1, 0]


def test_other_kinds_of_event_are_neither_where_negatives_are_drawn() -> None:
    assert judged(["install", "impression"], positives_only(positive=INSTALLS)) == [1, None]
