"""Rows of a dataset as requests and apps with raw values: what a client and a catalogue would have sent."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

from model.data.dataset import HISTORY, Dataset, has_logged, user_histories
from model.query import NULL, App, Query, Value
from model.schema import FeatureSchema, Source


def queries(dataset: Dataset, rows: pl.DataFrame) -> Iterator[Query]:
    """Each row of the dataset's examples as a request, with the history that it was scored with, where the log has it.

    A row whose log has none knows what the store knows of its user.
    """
    histories: Mapping[str, Mapping[str, int]] = user_histories(dataset, rows["user_id"])
    if not has_logged(rows):
        rows = rows.with_columns(pl.lit(None, HISTORY).alias("history"))
    for row in rows.iter_rows(named=True):
        user, context = (raw_values(row, dataset.schema, source=source) for source in (Source.USER, Source.CONTEXT))
        history = _scored_with(row)
        known = histories.get(row["user_id"], {}) if history is None else history
        yield Query(row["user_id"], user, context, known)


def apps(rows: pl.DataFrame, schema: FeatureSchema) -> Iterator[App]:
    """Each row of a dataset's apps."""
    for row in rows.iter_rows(named=True):
        yield App(row["app_id"], raw_values(row, schema, source=Source.APP))


def raw_values(row: Mapping[str, Any], schema: FeatureSchema, *, source: Source) -> dict[str, Value]:
    """A canonical row's values of one source as a request would carry them: what is missing is left out."""
    names = schema.from_source(source).keys() - {"user_id", "app_id"}
    return {name: _raw(row[name]) for name in sorted(names) if row.get(name) is not None}


def _raw(value: Value) -> Value:
    """Undo the canonical form of one value: NULL and NaN stand for an explicit null."""
    explicit_null = value == NULL or (isinstance(value, float) and math.isnan(value))
    return None if explicit_null else value


def _scored_with(row: Mapping[str, Any]) -> Mapping[str, int] | None:
    """A row's logged history, most used first; None where it has none."""
    logged = row["history"]
    return None if logged is None else {entry["app_id"]: entry["count"] for entry in logged}
