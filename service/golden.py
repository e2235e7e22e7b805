"""Golden requests: a few of the held-out ones with all their values, and what a fresh scorer makes of them."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import polars as pl

from model.bundle import Golden
from model.data.dataset import HISTORY, Dataset, has_logged, user_histories
from model.data.examples import rows_of
from model.query import App, Query
from model.schema import Source
from model.scorer import Scorer
from service.importing import app_records, raw_values

REQUEST_COUNT = 16
CANDIDATE_COUNT = 20


def golden_requests(scorer: Scorer, dataset: Dataset, *, seed: int) -> tuple[Golden, ...]:
    """Up to REQUEST_COUNT requests of the gate split, each with CANDIDATE_COUNT apps drawn from the catalogue."""
    rng = np.random.default_rng(seed)
    rows = rows_of(dataset, "gate")
    chosen = rows[np.sort(rng.choice(len(rows), size=min(REQUEST_COUNT, len(rows)), replace=False))]
    return tuple(
        Golden(query, apps, tuple(scorer.score(query, scorer.table(apps), np.arange(len(apps))).tolist()))
        for query, apps in zip(_queries(dataset, chosen), _candidates(dataset, rng), strict=False)
    )


def _queries(dataset: Dataset, rows: pl.DataFrame) -> Iterator[Query]:
    """Each row as a request, with the history that it was scored with, where the log has it."""
    histories: Mapping[str, Mapping[str, int]] = user_histories(dataset)
    if not has_logged(rows):
        rows = rows.with_columns(pl.lit(None, HISTORY).alias("history"))
    for row in rows.iter_rows(named=True):
        user, context = (raw_values(row, dataset.schema, source=source) for source in (Source.USER, Source.CONTEXT))
        history = _scored_with(row)
        known = histories.get(row["user_id"], {}) if history is None else history
        yield Query(row["user_id"], user, context, known)


def _scored_with(row: Mapping[str, Any]) -> Mapping[str, int] | None:
    """A row's logged history, most used first; None where it has none."""
    logged = row["history"]
    return None if logged is None else {entry["app_id"]: entry["count"] for entry in logged}


def _candidates(dataset: Dataset, rng: np.random.Generator) -> Iterator[tuple[App, ...]]:
    """Apps for one request after another, without end."""
    count = min(CANDIDATE_COUNT, len(dataset.apps))
    while True:
        drawn = dataset.apps[np.sort(rng.choice(len(dataset.apps), size=count, replace=False))]
        yield tuple(App(record.id, record.features) for record in app_records(drawn, dataset.schema))
