"""The reference work's log: visits of known users, apps shown to them, and installs drawn from the truth."""

import numpy as np
import polars as pl

from bench import reference_world as world
from model.data.dataset import Dataset, Facts

SHOWN_AT_MOST = 100_000
"""Apps that the log may show; a catalogue's further ones are unknown to the network, as new apps are."""

HELD_OUT = 8_192


def log_of(seed: int, users: int, *, apps: int, rows: int) -> Dataset:
    """`rows` labelled rows to train on and HELD_OUT each to stop by and to judge by, without times or histories."""
    rng = np.random.default_rng([seed, 5])
    shown, count = min(apps, SHOWN_AT_MOST), rows + 2 * HELD_OUT
    user, app = rng.integers(users, size=count), (shown * rng.random(count) ** 1.5).astype(np.int64)
    context, of_users, of_apps = world.contexts(rng, count), world.users(seed, users), world.apps(seed, 0, shown)
    asked = {name: values[user] for name, values in of_users.items()} | context
    logits = world.Truth.of(seed).logits(asked | {name: values[app] for name, values in of_apps.items()})
    label = rng.random(count) < 1 / (1 + np.exp(-logits))
    split = np.repeat(["train", "stop", "gate"], [rows, HELD_OUT, HELD_OUT])
    user_names, app_names = world.user_ids(users), world.app_ids(0, shown)
    keys = {"user_id": user_names.gather(user), "app_id": app_names.gather(app)}
    examples = pl.DataFrame({**keys, "label": label.astype(np.int8), "split": split, **world.texts(asked)})
    return Dataset(
        schema=world.schema(),
        examples=examples,
        apps=_everywhere(pl.DataFrame({"app_id": app_names, **world.texts(of_apps)})),
        users=pl.DataFrame({"user_id": user_names, **world.texts(of_users)}).with_columns(_none("installed")),
        facts=Facts("reference work", False, 1.0, "logged", None, _counts(examples)),
    )


def _everywhere(apps: pl.DataFrame) -> pl.DataFrame:
    return apps.with_columns(pl.lit(True).alias("available"), _none("countries"))


def _none(column: str) -> pl.Expr:
    return pl.lit([], dtype=pl.List(pl.String)).alias(column)


def _counts(examples: pl.DataFrame) -> dict[str, int]:
    splits = {str(name[0]): part["label"] for name, part in examples.group_by("split", maintain_order=True)}
    positives = {f"{name}_positive": int(label.sum()) for name, label in splits.items()}
    return {name: len(label) for name, label in splits.items()} | positives
