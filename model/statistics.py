"""What the training data looked like: kept in the bundle for the gate's baseline, the slices and, later, drift."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from model.data.dataset import Dataset

Ids = npt.NDArray[np.int64]


def statistics_of(dataset: Dataset, histogram: Ids) -> dict[str, Any]:
    """Popularity (positives by app), the base rate, and the histogram of the stop split's scores, see `Tally`."""
    rows = dataset.scan().filter(pl.col("split") == "train")
    by_app = dataset.collect(rows.group_by("app_id").agg(pl.len(), positives=pl.sum("label").cast(pl.Int64)))
    popular = by_app.filter(pl.col("positives") > 0).sort("app_id")
    count = int(by_app["len"].sum())
    return {
        "row_count": count,
        "base_rate": float(by_app["positives"].sum()) / max(count, 1),
        "popularity": dict(zip(popular["app_id"].to_list(), popular["positives"].to_list(), strict=True)),
        "score_histogram": histogram.tolist(),
    }
