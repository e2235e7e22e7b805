"""What the training data looked like: kept in the bundle for the gate's baseline, the slices and, later, drift."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from model.data.dataset import Dataset
from model.transforms import Transform

BIN_COUNT = 20


def statistics_of(dataset: Dataset, transform: Transform, scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Popularity (positives by app), the base rate, and a histogram of scores in BIN_COUNT equal bins of [0, 1]."""
    rows = dataset.scan().filter(pl.col("split") == "train")
    by_app = dataset.collect(rows.group_by("app_id").agg(pl.len(), positives=pl.sum("label").cast(pl.Int64)))
    popular = by_app.filter(pl.col("positives") > 0).sort("app_id")
    count = int(by_app["len"].sum())
    histogram, _ = np.histogram(scores, bins=BIN_COUNT, range=(0.0, 1.0))
    return {
        "row_count": count,
        "base_rate": float(by_app["positives"].sum()) / max(count, 1),
        "popularity": dict(zip(popular["app_id"].to_list(), popular["positives"].to_list(), strict=True)),
        "score_histogram": histogram.tolist(),
    }
