"""Small datasets written out by hand, so that a test can say what it expects."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import polars as pl

from model.data.dataset import Dataset, Facts
from model.schema import FeatureSchema, FieldSpec, Kind, PairStatistic, Source

SCHEMA = FeatureSchema.model_validate(
    {
        "fields": [
            {"name": "user_id", "source": "user", "kind": "categorical"},
            {"name": "age", "source": "user", "kind": "continuous", "quantiles": 5},
            {"name": "daytime", "source": "context", "kind": "categorical", "dim": 3},
            {"name": "installed", "source": "history", "kind": "multi"},
            {"name": "app_id", "source": "app", "kind": "categorical"},
            {"name": "tags", "source": "app", "kind": "multi"},
            {"name": "rating", "source": "app", "kind": "continuous", "quantiles": 5},
            {"name": "own_uses", "source": "pair", "kind": "continuous", "of": "uses"},
            {"name": "other_users", "source": "pair", "kind": "continuous", "of": "others"},
        ],
        "crosses": [
            {"fields": ["installed", "app_id"], "bits": 10},
            {"fields": ["daytime", "app_id"], "exact": True},
            {"fields": ["daytime", "user_id"], "bits": 8},
            {"fields": ["user_id", "daytime", "app_id"], "exact": True, "min_count": 2},
        ],
    }
)

COUNTED = SCHEMA.model_copy(
    update={
        "fields": (
            *SCHEMA.fields,
            FieldSpec(
                name="users_now", source=Source.PAIR, kind=Kind.CONTINUOUS, of=PairStatistic.IN_CONTEXT, by="daytime"
            ),
            FieldSpec(name="beside", source=Source.PAIR, kind=Kind.CONTINUOUS, of=PairStatistic.SIMILAR),
        )
    }
)
"""The same with what is known of all users."""

APPS = pl.DataFrame(
    {
        "app_id": ["a", "b", "c", "d"],
        "available": [True] * 4,
        "countries": [[], [], [], []],
        "tags": [["x", "y"], ["y"], [], None],
        "rating": [4.5, 3.0, None, 2.0],
    },
    schema_overrides={"countries": pl.List(pl.String)},
)


def dataset(rows: Sequence[Mapping[str, Any]], *, timed: bool = False, schema: FeatureSchema = SCHEMA) -> Dataset:
    """A dataset of `rows` (user_id, app_id, label, split, and at in seconds where timed) over the apps a to d."""
    frame = pl.DataFrame([_row(row, timed) for row in rows]).with_columns(pl.col("label").cast(pl.Int8))
    users = pl.DataFrame({"user_id": frame["user_id"].unique(maintain_order=True)})
    installed = pl.lit([], dtype=pl.List(pl.String)).alias("installed")
    facts = Facts("test", timed, 1.0, "logged", None, {})
    return Dataset(schema, frame, APPS, users.with_columns(installed, pl.lit(None, pl.Float64).alias("age")), facts)


def _row(row: Mapping[str, Any], timed: bool) -> dict[str, Any]:
    full: dict[str, Any] = {"age": 30.0, "daytime": "noon", "split": "train", **row}
    return full | ({"at": datetime.fromtimestamp(row["at"], UTC)} if timed else {})
