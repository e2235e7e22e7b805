"""The Frappe_x1 benchmark as published: ten fields, cost as in the row, train / valid / test. Never for a home."""

from dataclasses import replace
from pathlib import Path

import polars as pl

from model.data.dataset import Dataset
from model.data.prepare import prepare
from model.data.readers import Format, RawLog, Table, read_table
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, LogSpec, PairStatistic, Source

CONTEXT = ("daytime", "weekday", "isweekend", "homework", "cost", "weather", "country", "city")
PARTS = {"train": "train_rebuilt", "stop": "valid", "gate": "test"}


def benchmark(path: Path, *, history: bool = False) -> Dataset:
    """The published task from PATH, which holds `frappe_x1/`: split `stop` is all of valid, `gate` is test.

    Valid and test are exact, train is rebuilt. Apps are raw item numbers. `history` adds what the user did before,
    the row's own event left out: installed crosses and pair counts, beside the ten fields. Rows are scored as they
    were sampled, so the sampling rate is 1.
    """
    texts = pl.col("user", "item", *CONTEXT).cast(pl.String)
    frames = [
        read_table(path / "frappe_x1" / f"{name}.parquet", Format.PARQUET).frame.select(
            "label", texts, pl.lit(split).alias("split")
        )
        for split, name in PARTS.items()
    ]
    log = RawLog("frappe_x1", Table.of("frappe_x1", pl.concat(frames)))
    dataset, _ = prepare(log, schema(history=history))
    return replace(dataset, facts=replace(dataset.facts, negatives="unused"))


def schema(*, history: bool) -> FeatureSchema:
    """The ten benchmark fields; with history also installed apps, own uses and their crosses."""
    fields = [_field("user_id", Source.USER), _field("app_id", Source.APP)]
    fields += [_field(name, Source.CONTEXT) for name in CONTEXT]
    log = LogSpec(user="user", app="item", split="split")
    if not history:
        return FeatureSchema(fields=tuple(fields), log=log)
    fields += [
        FieldSpec(name="installed", source=Source.HISTORY, kind=Kind.MULTI),
        FieldSpec(name="own_uses", source=Source.PAIR, kind=Kind.CONTINUOUS, of=PairStatistic.USES, quantiles=50),
        FieldSpec(name="other_users", source=Source.PAIR, kind=Kind.CONTINUOUS, of=PairStatistic.OTHERS, quantiles=50),
    ]
    crosses = (CrossSpec(fields=("installed", "app_id"), bits=20),)
    return FeatureSchema(fields=tuple(fields), crosses=crosses, log=log)


def _field(name: str, source: Source) -> FieldSpec:
    return FieldSpec(name=name, source=source, kind=Kind.CATEGORICAL)
