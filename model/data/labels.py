"""The label rule: which rows of a log are positive, which are negative, and which are neither."""

import polars as pl

from model.data.columns import Column, either, reason, texts, where
from model.schema import LogSpec

TRUE, FALSE = ("1", "true"), ("0", "false")


def labels(raw: pl.Series, log: LogSpec) -> Column:
    """Judge the label column: (n,) Int8, 1 for the values in `log.positive`, case aside.

    Where the positives are 1 or true, 0 and false are negative and anything else is a fault; where they are kinds of
    event (`install`), every other kind is negative. Where negatives are drawn (`log.negatives`), what is not positive
    is null: neither. Whole floats count as the numbers they are. A label that is not there is a fault.
    """
    column = texts(_whole(raw))
    words = column.values.str.strip_chars().str.to_lowercase().str.replace(r"^([01])\.0+$", "$1")
    positives = [value.lower() for value in log.positive]
    positive = words.is_in(positives)
    recognised = positive | words.is_in(FALSE) if set(positives) <= set(TRUE) else words != ""
    allowed = ", ".join(dict.fromkeys([*positives, *FALSE]))
    unknown = reason(words.is_not_null() & ~recognised, f"a label that is none of {allowed}")
    why = either(either(column.why, unknown), reason(words.is_null(), "missing"))
    values = positive.cast(pl.Int8)
    return Column.of(where(positive, values) if log.negatives else values, why)


def _whole(raw: pl.Series) -> pl.Series:
    """A column of floats that are all whole as integers; every other column as it is."""
    if not raw.dtype.is_float():
        return raw
    rounded = raw.cast(pl.Int64, strict=False)
    return rounded if (rounded.cast(pl.Float64).eq_missing(raw.cast(pl.Float64))).all() else raw
