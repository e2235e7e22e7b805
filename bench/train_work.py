"""What `bench.train` trains on, at two sizes: a log for appshelf, and the same rows as arrays of ids for its peers."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from bench.reference_log import log_of
from model.data.dataset import Dataset, Facts
from model.data.examples import Examples, encode, rows_of
from model.fitting import fit
from model.schema import FeatureSchema, FieldSpec, Kind, Source
from model.transforms import Transform

Ints = npt.NDArray[np.int64]

REQUEST = {"user_id": 957, "daytime": 7, "weekday": 7, "isweekend": 2, "homework": 3, "weather": 9, "country": 80}
CITIES, APPS, COSTS = 233, 4_082, 2
HELD_OUT = 4_096
USERS, CATALOGUE, SEED = 20_000, 20_000, 0
BATCH = 4_096


@dataclass(frozen=True)
class Work:
    """One network and its log. crosses: of the wide half, beside a weight for each id."""

    name: str
    rows: int
    dim: int
    hidden: tuple[int, ...]
    batch_norm: bool = False
    dropout: float = 0.0
    crosses: bool = False

    @property
    def params(self) -> dict[str, Any]:
        """Of appshelf's `wide_deep`."""
        net = {"dim": self.dim, "hidden": list(self.hidden)}
        return {**net, "batch_norm": self.batch_norm, "dropout": self.dropout}


WORKS: Mapping[str, Work] = {
    "frappe": Work("frappe", 204_800, 10, (400, 400, 400), batch_norm=True, dropout=0.2),
    "paper": Work("paper", 98_304, 32, (1024, 512, 256)),
    "crosses": Work("crosses", 98_304, 32, (1024, 512, 256), crosses=True),
}
"""Frappe's fields at BARS's network; the size that Cheng et al. 2016 describe, and the same with its 60 crosses."""


def log(work: Work) -> Dataset:
    """Drawn from a seed; a truth of main effects and pairs makes the labels."""
    if work.name == "frappe":
        return _of_contexts(work.rows)
    made = log_of(SEED, USERS, apps=CATALOGUE, rows=work.rows)
    return made if work.crosses else replace(made, schema=made.schema.model_copy(update={"crosses": ()}))


def encoded(work: Work) -> tuple[Transform, Examples]:
    """The rows to train on."""
    made = log(work)
    transform = fit(made.schema, made)
    return transform, encode(transform, made, rows_of(made, "train"))


def export(work: Work, folder: Path) -> None:
    """The rows as peers take them: ids.npy (B, F) int64, dense.npy (B, D) float32, label.npy (B,) and work.json.

    The ids are appshelf's own, so every table has as many rows as its.
    """
    transform, examples = encoded(work)
    everything = examples.batch(torch.arange(len(examples)))
    sides = (everything.request, everything.app)
    sizes = [field.size for side in (transform.sizes.request, transform.sizes.app) for field in side.ids]
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "ids.npy", torch.cat([side.ids for side in sides], 1).numpy())
    np.save(folder / "dense.npy", torch.cat([side.dense for side in sides], 1).numpy())
    np.save(folder / "label.npy", everything.label.numpy())
    (folder / "work.json").write_text(
        json.dumps(asdict(work) | {"sizes": sizes, "batch_size": BATCH}), encoding="utf-8"
    )


def _of_contexts(rows: int) -> Dataset:
    rng, count = np.random.default_rng([SEED, 6]), rows + 2 * HELD_OUT
    sizes = {**REQUEST, "city": CITIES, "app_id": APPS}
    drawn = {name: (size * rng.random(count) ** 2).astype(np.int64) for name, size in sizes.items()}
    logits = sum(rng.normal(0, 0.4, size)[drawn[name]] for name, size in sizes.items()) - 1.0
    tastes, tags = rng.normal(0, 0.5, (REQUEST["user_id"], 4)), rng.normal(0, 0.5, (APPS, 4))
    logits += 2 * (tastes[drawn["user_id"]] * tags[drawn["app_id"]]).sum(1)
    label = rng.random(count) < 1 / (1 + np.exp(-logits))
    split = np.repeat(["train", "stop", "gate"], [rows, HELD_OUT, HELD_OUT])
    texts = {name: _texts(name, values) for name, values in drawn.items()}
    examples = pl.DataFrame({**texts, "label": label.astype(np.int8), "split": split})
    apps = pl.DataFrame({"app_id": _texts("app_id", np.arange(APPS)), "cost": _texts("cost", np.arange(APPS) % COSTS)})
    users = pl.DataFrame({"user_id": _texts("user_id", np.arange(REQUEST["user_id"]))})
    none = pl.lit([], dtype=pl.List(pl.String))
    return Dataset(
        schema=_schema(),
        examples=examples,
        apps=apps.with_columns(pl.lit(True).alias("available"), none.alias("countries")),
        users=users.with_columns(none.alias("installed")),
        facts=Facts("bench.train", False, 1.0, "logged", None, {"train": rows, "stop": HELD_OUT, "gate": HELD_OUT}),
    )


def _schema() -> FeatureSchema:
    sources = {name: Source.CONTEXT for name in (*REQUEST, "city")} | {"user_id": Source.USER}
    sources |= {"app_id": Source.APP, "cost": Source.APP}
    named = sources.items()
    return FeatureSchema(fields=tuple(FieldSpec(name=n, source=s, kind=Kind.CATEGORICAL) for n, s in named))


def _texts(name: str, values: Ints) -> pl.Series:
    return pl.select(pl.format(f"{name}-{{}}", pl.lit(pl.Series(values)))).to_series()
