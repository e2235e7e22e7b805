"""What the training data looked like: kept in the bundle for the gate's baseline, the slices and, later, drift."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from model.data.dataset import Dataset
from model.data.examples import rows_of
from model.transforms import Transform

BIN_COUNT = 20


def statistics_of(dataset: Dataset, transform: Transform, scores: npt.NDArray[np.float64]) -> dict[str, Any]:
    """Popularity (positives by app), the base rate, and a histogram of scores in BIN_COUNT equal bins of [0, 1]."""
    rows = rows_of(dataset, "train")
    positives = rows.filter(pl.col("label") == 1)["app_id"].value_counts(name="rows").sort("app_id")
    histogram, _ = np.histogram(scores, bins=BIN_COUNT, range=(0.0, 1.0))
    return {
        "row_count": len(rows),
        "base_rate": float(rows["label"].mean() or 0.0),  # type: ignore[arg-type]  # of Int8, a number or None
        "popularity": dict(zip(positives["app_id"].to_list(), positives["rows"].to_list(), strict=True)),
        "score_histogram": histogram.tolist(),
    }
