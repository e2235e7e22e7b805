"""Fit a transform to the training split: vocabularies, quantiles, then the keys of the exact crosses."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from model.crosses import Crosses
from model.data.dataset import Dataset
from model.data.examples import Examples, encode_with, history_for, rows_of
from model.data.history import History, audience_of
from model.schema import FeatureSchema, FieldSpec, Kind, PairStatistic, Source
from model.transforms import Transform
from model.vocabulary import Quantiles, Vocabulary

KEYS_AT_ONCE = 20_000


def fit(schema: FeatureSchema, dataset: Dataset) -> Transform:
    """Learn everything the encoder needs from the training split and nothing else."""
    rows = rows_of(dataset, "train")
    history = history_for(schema, dataset, rows)
    vocabularies = _vocabularies(schema, dataset, rows)
    quantiles = _quantiles(schema, dataset, rows, history)
    exact = [cross for cross in schema.crosses if cross.exact]
    unseen = {cross.name: np.empty(0, dtype=np.int64) for cross in exact}
    crosses = Crosses(schema, vocabularies, unseen)
    transform = Transform(schema, vocabularies, quantiles, crosses, audience_of(dataset))
    if not exact:
        return transform
    encoded = encode_with(transform, dataset, rows, history=history)
    return replace(transform, crosses=Crosses(schema, vocabularies, _kept_keys(encoded)))


def _vocabularies(schema: FeatureSchema, dataset: Dataset, rows: pl.DataFrame) -> dict[str, Vocabulary]:
    by_app = rows.select("app_id").join(dataset.apps, on="app_id", how="left")
    vocabularies = {}
    for field in schema.fields:
        if field.kind is Kind.CONTINUOUS:
            continue
        frame = by_app if field.source is Source.APP else rows
        column = _installed(dataset) if field.source is Source.HISTORY else _column(frame, field)
        vocabularies[field.name] = Vocabulary.fit(field.name, _seen(column), min_count=field.min_count)
    return vocabularies


def _installed(dataset: Dataset) -> pl.Series:
    """Every (user, app) known by the end of training, once: how many users hold each app."""
    events = rows_of(dataset, "train").filter(pl.col("label") == 1).select("user_id", "app_id")
    before = dataset.users.select("user_id", pl.col("installed").alias("app_id")).explode("app_id").drop_nulls()
    return pl.concat([events, before]).unique()["app_id"]


def _column(frame: pl.DataFrame, field: FieldSpec) -> pl.Series:
    if field.name not in frame.columns:
        return pl.Series(field.name, [None] * len(frame), dtype=pl.String)
    column = frame[field.name]
    return column.explode() if field.kind is Kind.MULTI else column


def _seen(column: pl.Series) -> Mapping[str | None, int]:
    counts = column.alias("value").value_counts(name="rows")
    return dict(zip(counts["value"].to_list(), counts["rows"].to_list(), strict=True))


def _quantiles(schema: FeatureSchema, dataset: Dataset, rows: pl.DataFrame, history: History) -> dict[str, Quantiles]:
    by_app = rows.select("app_id").join(dataset.apps, on="app_id", how="left")
    statistics = {PairStatistic.USES: history.uses, PairStatistic.OTHERS: history.others}
    fitted = {}
    for field in schema.fields:
        if field.kind is not Kind.CONTINUOUS:
            continue
        frame = by_app if field.source is Source.APP else rows
        values = statistics[field.of] if field.of else _floats(frame, field.name)
        fitted[field.name] = Quantiles.fit(values, quantiles=field.quantiles)
    return fitted


def _floats(frame: pl.DataFrame, name: str) -> npt.NDArray[np.float64]:
    if name not in frame.columns:
        return np.empty(0)
    return frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _kept_keys(examples: Examples) -> dict[str, npt.NDArray[np.int64]]:
    """The 64-bit keys of each exact cross that stand in at least its minimum count of training rows."""
    seen: dict[str, list[npt.NDArray[np.int64]]] = {}
    for start in range(0, len(examples), KEYS_AT_ONCE):
        rows = torch.arange(start, min(start + KEYS_AT_ONCE, len(examples)))
        for name, keys in _exact_keys(examples, rows).items():
            seen.setdefault(name, []).append(keys)
    specs = {cross.name: cross for cross in examples.transform.schema.crosses}
    kept = {}
    for name, parts in seen.items():
        keys, counts = np.unique(np.concatenate(parts), return_counts=True)
        kept[name] = keys[counts >= specs[name].min_count]
    return kept


def _exact_keys(examples: Examples, rows: torch.Tensor) -> dict[str, npt.NDArray[np.int64]]:
    """The keys of these rows by exact cross, whichever sides it spans."""
    crosses = examples.transform.crosses
    request = crosses.within(examples.requests.select(rows), request=True)
    app = examples.apps.select(examples.app_rows[rows])
    return {name: bag.values.numpy() for name, bag in crosses.exact_keys(request, app).items()}
