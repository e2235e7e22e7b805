"""The gate split as arrays: what is ranked together, which rows are a slice, and what either side scores them."""

import math

import numpy as np
import polars as pl

from model.checks import Floats, Ids, Mask
from model.data.dataset import LOGGED, Dataset, has_logged
from model.data.examples import encode
from model.schema import FeatureSchema, Kind, Source
from model.scorer import Scorer
from model.training import probabilities

PRIOR_ROWS = 10.0
COUNTRY_COUNT = 5
SHELF_COUNT, SHELF_SIZE = 50, 500


def predicted(scorer: Scorer, dataset: Dataset, rows: pl.DataFrame) -> Floats:
    """(B,) probabilities under this dataset's own sampling of negatives, whatever the scorer's was."""
    scores = probabilities(scorer.net, encode(scorer.transform, dataset, rows))
    odds = math.exp(scorer.log_rate) / dataset.facts.sampling_rate
    return scores * odds / (scores * odds + 1 - scores)


def popularity(dataset: Dataset, rows: pl.DataFrame) -> Floats:
    """(B,) each app's share of positives in training, drawn to the base rate as if by PRIOR_ROWS more rows."""
    train = dataset.scan().filter(pl.col("split") == "train").group_by("app_id")
    counts = dataset.collect(train.agg(pl.len(), positives=pl.sum("label").cast(pl.Int64)))
    positives, rows_in_all = (int(counts[name].sum()) for name in ("positives", "len"))
    rate = pl.lit(positives / rows_in_all if rows_in_all else None, pl.Float64)
    share = (pl.col("positives") + PRIOR_ROWS * rate) / (pl.col("len") + PRIOR_ROWS)
    by_app = counts.select("app_id", share=share)
    joined = rows.select("app_id").join(by_app, on="app_id", how="left", maintain_order="left")
    return joined.select(pl.col("share").fill_null(rate)).to_series().to_numpy()


def groups(schema: FeatureSchema, rows: pl.DataFrame) -> Ids:
    """(B,) which rows are ranked together: those of one request, else those of one user in one context."""
    if "request_id" in rows.columns and not rows["request_id"].null_count():
        keys = ["request_id"]
    else:
        keys = ["user_id", *(name for name in schema.from_source(Source.CONTEXT) if name in rows.columns)]
    ids: Ids = np.unique(rows.select(keys).hash_rows().to_numpy(), return_inverse=True)[1]
    return ids


def slices(schema: FeatureSchema, train: pl.DataFrame, rows: pl.DataFrame) -> dict[str, Mask]:
    """The slices by name: users, apps and pairs of both that training never saw, and the most frequent countries.

    train: see `trained_pairs`.
    """
    found = {
        "new_users": _unseen(train, rows, ["user_id"]),
        "new_apps": _unseen(train, rows, ["app_id"]),
        "unseen_pairs": _unseen(train, rows, ["user_id", "app_id"]),
    }
    country = {field.name for field in schema.of(Source.USER, Source.CONTEXT, kind=Kind.CATEGORICAL)} & {"country"}
    for name in country & set(rows.columns):
        counts = rows[name].drop_nulls().value_counts(sort=True).head(COUNTRY_COUNT)
        found |= {f"{name}={value}": (rows[name] == value).fill_null(False).to_numpy() for value in counts[name]}
    return found


def shelves(dataset: Dataset, rows: pl.DataFrame, *, seed: int) -> pl.DataFrame:
    """Examples of a catalogue ranked for SHELF_COUNT of `rows`, SHELF_SIZE apps each; column _shelf numbers them."""
    asked, drawn = shelf_sides(dataset, rows, seed=seed)
    logged = [name for name in LOGGED if name in rows.columns and name != "history"] if has_logged(rows) else []
    of_its_app = ["app_id", "label", *logged]
    numbered = asked.drop(of_its_app).with_row_index("_shelf")
    return numbered.join(drawn.select("app_id"), how="cross").with_columns(label=pl.lit(0, pl.Int8))


def shelf_sides(dataset: Dataset, rows: pl.DataFrame, *, seed: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """What the shelves are made of: the rows that ask, and the apps that each of them is shown."""
    apps = dataset.apps.filter("available")
    drawn = apps.sample(min(SHELF_SIZE, len(apps)), seed=seed)
    return rows.sample(min(SHELF_COUNT, len(rows)), seed=seed), drawn


def _unseen(train: pl.DataFrame, rows: pl.DataFrame, keys: list[str]) -> Mask:
    seen = train.select(keys).unique().with_columns(seen=True)
    joined = rows.select(keys).join(seen, on=keys, how="left", maintain_order="left")
    return joined["seen"].is_null().to_numpy()
