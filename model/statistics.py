"""What the training data looked like: kept in the bundle for the gate's baseline, the slices and, later, drift."""

from typing import Any

import polars as pl

from model.data.dataset import Dataset


def statistics_of(dataset: Dataset) -> dict[str, Any]:
    """Popularity (positives by app) and the base rate, in a pass over the log."""
    rows = dataset.scan().filter(pl.col("split") == "train")
    by_app = dataset.collect(rows.group_by("app_id").agg(pl.len(), positives=pl.sum("label").cast(pl.Int64)))
    popular = by_app.filter(pl.col("positives") > 0).sort("app_id")
    count = int(by_app["len"].sum())
    return {
        "row_count": count,
        "base_rate": float(by_app["positives"].sum()) / max(count, 1),
        "popularity": dict(zip(popular["app_id"].to_list(), popular["positives"].to_list(), strict=True)),
    }
