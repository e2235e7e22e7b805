"""Old rows as they were known when they were new: history written into them, so that it cannot be computed again."""

import polars as pl

from model.data.dataset import MEASURES, Dataset
from model.data.history import logged
from model.population import population_fields


def with_history(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """`rows` of the dataset's examples with history, uses, others and measures written into them, each as of its row.

    Among other rows and users than the dataset's own, what was known before a row could not be told any more.
    """
    fields = population_fields(dataset.schema)
    known = logged(dataset, rows, fields=fields)
    measures = [
        pl.struct(name=pl.lit(one.measure, pl.String), value=pl.col(one.measure or "").cast(pl.Float64))
        for one in fields
    ]
    told = pl.concat_list(measures) if measures else pl.lit([], MEASURES)
    return rows.with_columns(known.select("history", "uses", "others", measures=told.cast(MEASURES)))
