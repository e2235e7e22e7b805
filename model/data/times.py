"""Times of a log, in the ways logs write them, as UTC."""

import polars as pl

from model.data.columns import Column, either, nulls, reason

UTC = pl.Datetime("us", "UTC")
ISO_8601 = (
    r"^\s*(?<date>\d{4}-\d\d-\d\d)(?:[Tt ](?<clock>\d\d:\d\d)(?<second>:\d\d)?(?:[.,](?<fraction>\d{1,9}))?"
    r"\s*(?:[Zz]|(?<sign>[+-])(?<hours>\d\d):?(?<minutes>\d\d))?)?\s*$"
)
END_OF_9999_US = 253_402_300_800_000_000


def times(raw: pl.Series) -> Column:
    """Judge a column of times: (n,) Datetime("us", "UTC"), a null being a fault.

    Taken are dates and times, ISO 8601 text (UTC where it gives no offset), and numbers since 1970: seconds, from
    1e11 on milliseconds, from 1e14 microseconds, from 1e17 nanoseconds.
    """
    values = _times(raw)
    return Column(values, reason(values.is_null(), "not a time: ISO 8601 or a number since 1970 is allowed"))


def _times(raw: pl.Series) -> pl.Series:
    if raw.dtype == pl.Object:
        raw = pl.Series([None if value is None else str(value) for value in raw], dtype=pl.String)
    if raw.dtype == pl.String:
        iso = _from_iso(raw)
        return iso if iso.null_count() == 0 else either(iso, _since_1970(raw))
    if raw.dtype.is_numeric():
        return _since_1970(raw)
    if isinstance(raw.dtype, pl.Datetime) and raw.dtype.time_zone is None:
        return raw.cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    if isinstance(raw.dtype, pl.Date | pl.Datetime):
        return raw.cast(UTC)
    return nulls(len(raw), UTC)


def _from_iso(raw: pl.Series) -> pl.Series:
    parts = raw.str.extract_groups(ISO_8601).struct.unnest()
    second = pl.col("second").fill_null(":00")
    whole = pl.concat_str("date", pl.lit("T"), pl.col("clock").fill_null("00:00"), second)
    fraction = pl.col("fraction").fill_null("0").str.pad_end(6, "0").str.slice(0, 6).cast(pl.Int64)
    sign = pl.when(pl.col("sign") == "-").then(-1).otherwise(1)
    offset = pl.duration(hours=_whole("hours") * sign, minutes=_whole("minutes") * sign)
    local = whole.str.to_datetime("%Y-%m-%dT%H:%M:%S", time_unit="us", strict=False)
    return parts.select((local + pl.duration(microseconds=fraction) - offset).dt.replace_time_zone("UTC")).to_series()


def _whole(name: str) -> pl.Expr:
    return pl.col(name).fill_null("0").cast(pl.Int64)


def _since_1970(raw: pl.Series) -> pl.Series:
    number = raw.cast(pl.Float64, strict=False).alias("at").to_frame()
    at = pl.col("at")
    scale = pl.when(at < 1e11).then(1e6).when(at < 1e14).then(1e3).when(at < 1e17).then(1.0).otherwise(1e-3)
    micros = (at * scale).round()
    inside = micros.is_between(0, END_OF_9999_US, closed="left")
    return number.select(
        pl.when(inside).then(micros).cast(pl.Int64).cast(pl.Datetime("us")).dt.replace_time_zone("UTC")
    ).to_series()
