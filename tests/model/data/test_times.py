from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.times import times

NOON = datetime(2024, 3, 1, 12, tzinfo=UTC)
offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(1970, 1, 3), datetime(9000, 1, 1), timezones=offsets)


def one(value: Any) -> datetime | None:  # noqa: ANN401 - whatever a log holds
    found: datetime | None = times(pl.Series([value])).values[0]
    return found


@given(moments)
def test_iso_text_is_read_at_its_offset(moment: datetime) -> None:
    assert one(moment.isoformat()) == moment


@pytest.mark.parametrize(
    "text", ["2024-03-01T12:00:00Z", "2024-03-01 12:00", "2024-03-01T14:00+0200", "2024-03-01t12:00:00.000000000z"]
)
def test_the_ways_to_write_one_time_agree(text: str) -> None:
    assert one(text) == NOON


@pytest.mark.parametrize("scale", [1, 10**3, 10**6, 10**9])
def test_numbers_are_seconds_or_their_fractions_by_size(scale: int) -> None:
    seconds = int(NOON.timestamp())
    assert one(seconds * scale) == NOON
    assert one(str(seconds * scale)) == NOON
    assert one(float(seconds * scale)) == NOON


def test_dates_and_naive_times_are_utc() -> None:
    assert one(date(2024, 3, 1)) == datetime(2024, 3, 1, tzinfo=UTC)
    assert one(NOON.replace(tzinfo=None)) == NOON
    assert one(NOON.astimezone(timezone(timedelta(hours=2)))) == NOON


@pytest.mark.parametrize(
    "value", ["yesterday", "2024-13-01", "01/02/2024", "", None, -1, 10**21, "nan", True, float("inf"), "2024-02-30"]
)
def test_what_is_no_time_is_a_fault(value: object) -> None:
    column = times(pl.Series([value]))
    assert column.values.to_list() == [None]
    assert column.why.to_list() == ["not a time: ISO 8601 or a number since 1970 is allowed"]


def test_a_column_may_mix_texts_and_numbers() -> None:
    column = times(pl.Series(["2024-03-01T12:00Z", int(NOON.timestamp()), {"at": 1}], dtype=pl.Object))
    assert column.values.to_list() == [NOON, NOON, None]
