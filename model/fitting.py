"""Fit a transform to the training split: vocabularies, quantiles, then the keys of the exact crosses."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from model.crosses import Crosses
from model.data.dataset import Dataset, has_logged
from model.data.examples import Examples, encode_with, history_for, rows_of
from model.data.history import History, audience_of
from model.schema import FeatureSchema, FieldSpec, Kind, PairStatistic, Source
from model.transforms import Transform
from model.vocabulary import Quantiles, Vocabulary

KEYS_AT_ONCE = 20_000

Keys = npt.NDArray[np.int64]


def fit(schema: FeatureSchema, dataset: Dataset) -> Transform:
    """Learn everything the encoder needs from the training split and nothing else."""
    rows = rows_of(dataset, "train")
    history = history_for(schema, dataset, rows)
    seen = seen_values(schema, dataset, rows)
    id_fields = (field for field in schema.fields if field.name in seen)
    vocabularies = {f.name: Vocabulary.fit(f.name, seen[f.name], min_count=f.min_count) for f in id_fields}
    quantiles = fit_quantiles(schema, dataset, rows, history=history)
    transform = Transform(schema, vocabularies, quantiles, no_keys(schema, vocabularies), audience_of(dataset))
    counted = count_keys(transform, dataset, rows, history=history)
    kept = {c.name: _frequent(*counted[c.name], least=c.min_count) for c in schema.crosses if c.exact}
    return replace(transform, crosses=Crosses(schema, vocabularies, kept))


def seen_values(schema: FeatureSchema, dataset: Dataset, rows: pl.DataFrame) -> dict[str, Mapping[str | None, int]]:
    """How many of `rows` hold each value of each id field by name; of the history field, how many users hold it."""
    by_app = dataset.scored_apps[dataset.app_rows(rows)]
    seen = {}
    for field in schema.fields:
        if field.kind is Kind.CONTINUOUS:
            continue
        frame = by_app if field.source is Source.APP else rows
        column = _installed(dataset) if field.source is Source.HISTORY else _column(frame, field)
        seen[field.name] = _seen(column)
    return seen


def _installed(dataset: Dataset) -> pl.Series:
    """Every (user, app) known by the end of training, once: how many users hold each app."""
    train = rows_of(dataset, "train")
    events = train.filter(pl.col("label") == 1).select("user_id", "app_id")
    before = dataset.users.select("user_id", pl.col("installed").alias("app_id")).explode("app_id").drop_nulls()
    return pl.concat([events, before, _scored_with(train)]).unique()["app_id"]


def _scored_with(rows: pl.DataFrame) -> pl.DataFrame:
    """user_id, app_id of what the rows' own histories hold, which may have been given up since."""
    if not has_logged(rows):
        return pl.DataFrame(schema={"user_id": pl.String, "app_id": pl.String})
    request = [name for name in ("user_id", "request_id", "at") if name in rows.columns]
    histories = rows.select(*request, entry="history").unique(request).explode("entry")
    return histories.select("user_id", app_id=pl.col("entry").struct.field("app_id")).drop_nulls()


def _column(frame: pl.DataFrame, field: FieldSpec) -> pl.Series:
    if field.name not in frame.columns:
        return pl.Series(field.name, [None] * len(frame), dtype=pl.String)
    column = frame[field.name]
    return column.explode() if field.kind is Kind.MULTI else column


def _seen(column: pl.Series) -> Mapping[str | None, int]:
    counts = column.alias("value").value_counts(name="rows")
    return dict(zip(counts["value"].to_list(), counts["rows"].to_list(), strict=True))


def fit_quantiles(
    schema: FeatureSchema, dataset: Dataset, rows: pl.DataFrame, *, history: History
) -> dict[str, Quantiles]:
    """The quantiles of each continuous field by name, over `rows`."""
    by_app = dataset.scored_apps[dataset.app_rows(rows)]
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


def no_keys(schema: FeatureSchema, vocabularies: Mapping[str, Vocabulary]) -> Crosses:
    """The crosses of a schema before any key of an exact one is known."""
    return Crosses(schema, vocabularies, {c.name: np.empty(0, dtype=np.int64) for c in schema.crosses if c.exact})


def count_keys(
    transform: Transform, dataset: Dataset, rows: pl.DataFrame, *, history: History
) -> dict[str, tuple[Keys, Keys]]:
    """The 64-bit keys of each exact cross by name, ascending, and in how many of `rows` each stands."""
    if not any(cross.exact for cross in transform.schema.crosses):
        return {}
    examples = encode_with(transform, dataset, rows, history=history)
    seen: dict[str, list[Keys]] = {}
    for start in range(0, len(examples), KEYS_AT_ONCE):
        part = torch.arange(start, min(start + KEYS_AT_ONCE, len(examples)))
        for name, keys in _exact_keys(examples, part).items():
            seen.setdefault(name, []).append(keys)
    return {name: _counted(np.concatenate(parts)) for name, parts in seen.items()}


def _counted(keys: Keys) -> tuple[Keys, Keys]:
    distinct, counts = np.unique(keys, return_counts=True)
    return distinct, counts


def _frequent(keys: Keys, counts: Keys, *, least: int) -> Keys:
    return keys[counts >= least]


def _exact_keys(examples: Examples, rows: torch.Tensor) -> dict[str, Keys]:
    """The keys of these rows by exact cross, whichever sides it spans."""
    crosses = examples.transform.crosses
    request = crosses.within(examples.requests.select(rows), request=True)
    app = examples.apps.select(examples.app_rows[rows])
    return {name: bag.values.numpy() for name, bag in crosses.exact_keys(request, app).items()}
