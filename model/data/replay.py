"""Old rows as they were known when they were new: history written into them, so that it cannot be computed again."""

import polars as pl

from model.data.dataset import Dataset
from model.data.history import logged


def with_history(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of the dataset's examples with history, uses and others written into them, each as of its row.

    Among other rows and users than the dataset's own, what was known before a row could not be told any more.
    """
    return rows.with_columns(logged(dataset, rows))
