"""The Frappe_x1 benchmark as published: ten fields, cost as in the row, train / valid / test. Never for a home."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from model.data.dataset import Dataset
from model.data.frappe import history_fields
from model.data.prepare import prepare
from model.data.readers import Format, RawLog, Table, read_table
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, LogSpec, Source

CONTEXT = ("daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
WORD = "Frappe_x1: exact valid and test, rebuilt train"
STAND_IN = 64


def benchmark(path: Path, schema: FeatureSchema, *, test: bool = False) -> Dataset:
    """The published task from PATH, which holds `frappe_x1/`: split `stop` is all of valid.

    Split `gate` is test where it is to be read; otherwise the file is not opened, and the first rows of valid stand
    there, which nothing reads. Valid and test are exact, train is rebuilt. Apps are raw item numbers. Rows are scored
    as they were sampled, so the sampling rate is 1.
    """
    parts = [_part(path, "train_rebuilt", split="train"), _part(path, "valid", split="stop")]
    last = _part(path, "test", split="gate") if test else parts[1].head(STAND_IN).with_columns(split=pl.lit("gate"))
    dataset, _ = prepare(RawLog("frappe_x1", Table.of("frappe_x1", pl.concat([*parts, last]))), schema)
    return replace(dataset, facts=replace(dataset.facts, negatives="unused"))


def schema_of(crosses: Sequence[CrossSpec] = (), *, history: Sequence[str] | None = None) -> FeatureSchema:
    """The ten benchmark fields and crosses of them.

    history: also what is known of earlier uses, the row's own event left out, counted under each of these fields too.
    """
    fields = [_field("user_id", Source.USER), _field("app_id", Source.APP)]
    fields += [_field(name, Source.CONTEXT) for name in CONTEXT]
    known = () if history is None else history_fields(history)
    log = LogSpec(user="user", app="item", split="split")
    return FeatureSchema(fields=(*fields, *known), crosses=tuple(crosses), log=log)


def _part(path: Path, name: str, *, split: str) -> pl.DataFrame:
    texts = pl.col("user", "item", *CONTEXT).cast(pl.String)
    frame = read_table(path / "frappe_x1" / f"{name}.parquet", Format.PARQUET).frame
    return frame.select("label", texts, pl.lit(split).alias("split"))


def _field(name: str, source: Source) -> FieldSpec:
    return FieldSpec(name=name, source=source, kind=Kind.CATEGORICAL)
