"""One small app store with four trained versions in a home: what the service's tests serve."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from model.bundle import Bundle, load, save
from model.data.dataset import Dataset, Facts
from model.report import Check, GateReport
from model.schema import FeatureSchema
from model.training import TrainConfig
from service.container import Container, build
from service.importing import keep
from service.lifecycle import train_version
from service.settings import Settings
from service.store.ports import Note

LIVE, PASSED, MISSING_ITS_GOLDEN, REJECTED = (f"20260101T00000{second}Z-aaaaaa" for second in range(4))
"""In the home, by state. The third passed too, but no server can reproduce its golden scores."""

ADMIN_KEY = "the admin key"
APPS = [f"com.app{number:02}" for number in range(30)]
USERS = [f"u{number}" for number in range(40)]
COUNTRIES = ["PT", "BR", "JP"]
DAYTIMES = ["morning", "evening"]
TAGS = ["fun", "work", "kids"]
SAMPLING_RATE = 0.25
TEST = Note("test", "made for the tests")

SCHEMA = FeatureSchema.model_validate(
    {
        "fields": [
            {"name": "user_id", "source": "user", "kind": "categorical"},
            {"name": "country", "source": "user", "kind": "categorical"},
            {"name": "age", "source": "user", "kind": "continuous"},
            {"name": "interests", "source": "user", "kind": "multi"},
            {"name": "daytime", "source": "context", "kind": "categorical"},
            {"name": "battery", "source": "context", "kind": "continuous"},
            {"name": "installed", "source": "history", "kind": "multi", "max_values": 4},
            {"name": "app_id", "source": "app", "kind": "categorical"},
            {"name": "category", "source": "app", "kind": "categorical"},
            {"name": "tags", "source": "app", "kind": "multi"},
            {"name": "rating", "source": "app", "kind": "continuous"},
            {"name": "own_uses", "source": "pair", "kind": "continuous", "of": "uses"},
        ],
        "crosses": [
            {"fields": ["installed", "app_id"], "bits": 10},
            {"fields": ["daytime", "app_id"], "exact": True},
            {"fields": ["country", "daytime"], "bits": 8},
        ],
        "retired": ["screen"],
    }
)


def users_of(names: list[str], rng: np.random.Generator) -> pl.DataFrame:
    """Users with every field, a value in five missing, and up to six apps each."""
    count = len(names)
    return pl.DataFrame(
        {
            "user_id": names,
            "installed": [sorted(rng.choice(APPS, size=rng.integers(0, 7), replace=False)) for _ in names],
            "country": [[*COUNTRIES, "DE", None][number] for number in rng.integers(0, 5, size=count)],
            "age": [float(age) if age > 25 else None for age in rng.integers(10, 80, size=count)],
            "interests": [list(rng.choice(TAGS, size=rng.integers(0, 3), replace=False)) for _ in names],
        },
        schema_overrides={"installed": pl.List(pl.String), "interests": pl.List(pl.String), "age": pl.Float64},
    )


def apps_of(rng: np.random.Generator) -> pl.DataFrame:
    """The catalogue: available everywhere."""
    return pl.DataFrame(
        {
            "app_id": APPS,
            "available": [True] * len(APPS),
            "countries": [[] for _ in APPS],
            "category": [["games", "tools", None][number % 3] for number in range(len(APPS))],
            "tags": [list(rng.choice(TAGS, size=rng.integers(0, 3), replace=False)) for _ in APPS],
            "rating": [None if number % 7 == 0 else float(number % 5) for number in range(len(APPS))],
        },
        schema_overrides={"countries": pl.List(pl.String), "tags": pl.List(pl.String)},
    )


def dataset(seed: int = 0) -> Dataset:
    """A log without times in which apps of even number sell in the morning and those of odd number in the evening."""
    rng = np.random.default_rng(seed)
    users = users_of(USERS, rng)
    count = 1200
    app, evening = rng.integers(0, len(APPS), size=count), rng.integers(0, 2, size=count)
    sold = rng.random(count) < np.where(app % 2 == evening, 0.6, 0.1)
    examples = pl.DataFrame(
        {
            "user_id": rng.choice(USERS, size=count),
            "app_id": [APPS[number] for number in app],
            "label": pl.Series(sold.astype(np.int8), dtype=pl.Int8),
            "split": rng.choice(["train", "stop", "gate"], p=[0.6, 0.2, 0.2], size=count),
            "daytime": [DAYTIMES[late] for late in evening],
            "battery": rng.random(count),
        }
    ).join(users.drop("installed"), on="user_id", how="left", maintain_order="left")
    facts = Facts("test", timed=False, sampling_rate=SAMPLING_RATE, negatives="unused", window=None, counts={})
    return Dataset(SCHEMA, examples, apps_of(rng), users, facts)


def furnish(home: Path) -> None:
    """Fill a home: data, store, and a version in each state that the tests ask for."""
    container = build(settings(home))
    keep(dataset(), container.home, container.features)
    first, second = (_trained(container, seed) for seed in (1, 2))
    for version, bundle in (
        (LIVE, first),
        (PASSED, second),
        (MISSING_ITS_GOLDEN, _forgetful(first)),
        (REJECTED, second),
    ):
        sealed = replace(bundle, manifest=bundle.manifest.model_copy(update={"version": version}))
        save(sealed, container.home.bundles)
        container.registry.register(load(container.home.bundles / version).manifest, note=TEST)
        passed = version != REJECTED
        container.registry.record(verdict(version, passed=passed), note=TEST)
        if version == LIVE:
            container.registry.go_live(version, note=TEST)


def settings(home: Path) -> Settings:
    """Settings under which nothing waits long."""
    return Settings.model_validate({"home": home, "poll_s": 0.02, "lease_timeout_s": 5.0, "admin_key": ADMIN_KEY})


def verdict(version: str, *, passed: bool) -> GateReport:
    """A report of one check."""
    check = Check("auc", "passed" if passed else "failed", -0.02, -0.005, "made for the tests")
    against = "popularity" if version == LIVE else LIVE
    return GateReport(version, against, "2026-01-01T00:00:00+00:00", (check,))


def _trained(container: Container, seed: int) -> Bundle:
    config = TrainConfig(params={"hidden": [8]}, epochs=2, batch_size=256, seed=seed)
    version = train_version(container, config, token=f"bbbbb{seed}", progress=lambda _: None)
    return load(container.home.bundles / version, optimizer=True)


def _forgetful(bundle: Bundle) -> Bundle:
    golden = tuple(replace(one, scores=tuple(score / 2 for score in one.scores)) for one in bundle.golden)
    return replace(bundle, golden=golden)
