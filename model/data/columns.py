"""Raw columns to canonical ones, a column at a time: the rules of `model.query`, with a reason for each bad value."""

from dataclasses import dataclass
from typing import Self

import polars as pl

from model.query import MAX_TEXT_LENGTH, NULL, ValueRefused, continuous
from model.schema import Kind

SEPARATOR = "|"
CONTROL = r"[\x00-\x1f\x7f]"
DTYPES = {Kind.CATEGORICAL: pl.String(), Kind.CONTINUOUS: pl.Float64(), Kind.MULTI: pl.List(pl.String)}
A_TEXT = "a text, a whole number or a boolean"
MOST_PLACES = 2**31 - 1
NOT_FINITE = "NaN or infinity where a finite number is allowed"


@dataclass(frozen=True)
class Column:
    """A judged column: canonical values (n,), null where missing or bad, and why (n,) text, null where good."""

    values: pl.Series
    why: pl.Series

    @classmethod
    def of(cls, values: pl.Series, why: pl.Series) -> Self:
        """The values where there is no why."""
        return cls(where(why.is_null(), values), why)

    @classmethod
    def good(cls, values: pl.Series) -> Self:
        """Values with nothing wrong."""
        return cls(values, nulls(len(values), pl.String()))


def canonical(raw: pl.Series, kind: Kind, *, textual: bool = False) -> Column:
    """Judge a raw column (n,) against a field's kind; `textual` columns hold text to be parsed (numbers, lists).

    Nulls become the kind's explicit null: the text NULL, NaN, and for a list null itself.
    """
    match kind:
        case Kind.CATEGORICAL:
            column = texts(raw)
            return Column.of(column.values.fill_null(NULL), column.why)
        case Kind.CONTINUOUS:
            column = _numbers(raw.str.strip_chars(), textual=True) if textual else _numbers(raw)
            return Column.of(column.values.fill_null(float("nan")), column.why)
        case Kind.MULTI:
            return _lists(raw.str.split(SEPARATOR) if textual else raw)


def texts(raw: pl.Series) -> Column:
    """Texts, whole numbers and booleans as text; null stays null."""
    column = _typed_texts(raw)
    why = (
        pl.when(column.values.str.len_chars() > MAX_TEXT_LENGTH)
        .then(pl.lit(f"a text of more than {MAX_TEXT_LENGTH} characters"))
        .when(column.values.str.contains(CONTROL))
        .then(pl.lit("a control character in a text"))
        .otherwise(column.why)
    )
    return Column.of(column.values, pl.select(why).to_series())


def places(raw: pl.Series, *, textual: bool = False) -> Column:
    """Judge a column of places in a list: (n,) Int32, whole numbers from 1; null stays null."""
    column = canonical(raw, Kind.CONTINUOUS, textual=textual)
    values = column.values.fill_nan(None)
    wrong = reason((values < 1) | (values % 1 != 0) | (values > MOST_PLACES), "not a whole number from 1 on")
    return Column.of(values.cast(pl.Int32, strict=False), either(column.why, wrong))


def nulls(count: int, dtype: pl.DataType) -> pl.Series:
    """A column (count,) of nulls."""
    return pl.Series([None], dtype=dtype).new_from_index(0, count)


def where(keep: pl.Series, values: pl.Series) -> pl.Series:
    """The values (n,) at `keep` (n,) booleans, null elsewhere."""
    return pl.select(pl.when(keep).then(values)).to_series().rename(values.name)


def reason(bad: pl.Series, why: str) -> pl.Series:
    """(n,) the text `why` at `bad` (n,) booleans, null elsewhere and where `bad` is null."""
    return pl.select(pl.when(bad).then(pl.lit(why))).to_series()


def either(first: pl.Series, second: pl.Series) -> pl.Series:
    """(n,) `first` where it is not null, else `second`."""
    return first.zip_with(first.is_not_null(), second)


def _typed_texts(raw: pl.Series) -> Column:
    if raw.dtype == pl.Object:
        return _pairs([_object_text(value) for value in raw], pl.String())
    if raw.dtype.is_integer() or raw.dtype in (pl.String, pl.Boolean, pl.Categorical, pl.Enum, pl.Null):
        return Column.good(raw.cast(pl.String))
    return _wrong_type(raw, pl.String(), A_TEXT)


def _numbers(raw: pl.Series, *, textual: bool = False) -> Column:
    if raw.dtype == pl.Object:
        return _pairs([_object_number(value) for value in raw], pl.Float64())
    if not (textual or raw.dtype.is_numeric() or raw.dtype == pl.Null):
        return _wrong_type(raw, pl.Float64(), "a number")
    values = raw.cast(pl.Float64, strict=False)
    why = (
        pl.when(~values.is_finite())
        .then(pl.lit(NOT_FINITE))
        .when(values.is_null() & raw.is_not_null())
        .then(pl.lit("a text that is not a number"))
    )
    return Column.of(values, pl.select(why).to_series())


def _lists(raw: pl.Series) -> Column:
    """Judge lists item by item; a list with one bad item is bad."""
    if raw.dtype == pl.Object:
        given = _pairs([_object_list(value) for value in raw], pl.Object())
        lists = [value or [] for value in given.values]
        items = pl.Series([item for items in lists for item in items], dtype=pl.Object)
        judged = _regroup(texts(items), pl.Series(map(len, lists), dtype=pl.UInt32), given.values.is_not_null())
        return Column.of(judged.values, either(given.why, judged.why))
    if isinstance(raw.dtype, pl.List):
        held = raw.list.len().fill_null(0)
        return _regroup(texts(raw.filter(held > 0).explode()), held, raw.is_not_null())
    return _wrong_type(raw, DTYPES[Kind.MULTI], "a list of texts")


def _regroup(items: Column, held: pl.Series, given: pl.Series) -> Column:
    """Lists again from judged items laid end to end: held (n,) items each; given (n,) False where there is no list."""
    frame = pl.DataFrame({"held": held, "given": given}).with_row_index("list")
    owner = frame.filter(pl.col("held") > 0).select(pl.col("list").repeat_by("held").explode()).to_series()
    lists = (
        pl.DataFrame({"list": owner, "item": items.values.fill_null(NULL), "why": items.why})
        .group_by("list", maintain_order=True)
        .agg("item", pl.col("why").drop_nulls().first())
    )
    joined = frame.join(lists, on="list", how="left", maintain_order="left")
    empty = pl.lit([], dtype=DTYPES[Kind.MULTI])
    values = joined.select(pl.when("given").then(pl.coalesce("item", empty)).alias("item")).to_series()
    return Column.of(values, joined["why"])


def _object_text(value: object) -> tuple[str | None, str | None]:
    if value is None:
        return None, None
    if isinstance(value, str | int):
        return str(value).lower() if isinstance(value, bool) else str(value), None
    return None, f"{type(value).__name__} where {A_TEXT} is allowed"


def _object_number(value: object) -> tuple[float | None, str | None]:
    try:
        return (None if value is None else continuous(value)), None
    except ValueRefused as refused:
        return None, str(refused)
    except OverflowError:
        return None, NOT_FINITE


def _object_list(value: object) -> tuple[list[object] | None, str | None]:
    if value is None or isinstance(value, list):
        return value, None
    return None, f"{type(value).__name__} where a list of texts is allowed"


def _pairs(pairs: list[tuple[object, str | None]], dtype: pl.DataType) -> Column:
    values, whys = [value for value, _ in pairs], [why for _, why in pairs]
    return Column(pl.Series(values, dtype=dtype), pl.Series(whys, dtype=pl.String))


def _wrong_type(raw: pl.Series, dtype: pl.DataType, allowed: str) -> Column:
    """Every value but null is of a wrong type."""
    return Column(nulls(len(raw), dtype), reason(raw.is_not_null(), f"{raw.dtype} where {allowed} is allowed"))
