"""Golden requests: a few of the held-out ones with all their values, and what a fresh scorer makes of them."""

from collections.abc import Iterator

import numpy as np
import polars as pl

from model.bundle import Golden
from model.data.dataset import Dataset
from model.data.queries import apps, queries
from model.query import App
from model.scorer import Scorer

REQUEST_COUNT = 16
CANDIDATE_COUNT = 20


def golden_requests(scorer: Scorer, dataset: Dataset, *, seed: int) -> tuple[Golden, ...]:
    """Up to REQUEST_COUNT requests of the gate split, each with CANDIDATE_COUNT apps drawn from the catalogue."""
    rng = np.random.default_rng(seed)
    count = dataset.count("gate")
    places = np.sort(rng.choice(count, size=min(REQUEST_COUNT, count), replace=False))
    numbered = dataset.scan().filter(pl.col("split") == "gate").with_row_index("_row")
    chosen = dataset.collect(numbered.filter(pl.col("_row").is_in(places.tolist())).drop("_row"))
    return tuple(
        Golden(query, shown, tuple(scorer.score(query, scorer.table(shown), np.arange(len(shown))).tolist()))
        for query, shown in zip(queries(dataset, chosen), _candidates(dataset, rng), strict=False)
    )


def _candidates(dataset: Dataset, rng: np.random.Generator) -> Iterator[tuple[App, ...]]:
    """Apps for one request after another, without end."""
    count = min(CANDIDATE_COUNT, len(dataset.apps))
    while True:
        drawn = dataset.apps[np.sort(rng.choice(len(dataset.apps), size=count, replace=False))]
        yield tuple(apps(drawn, dataset.schema))
