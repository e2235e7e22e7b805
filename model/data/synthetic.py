"""A synthetic app store: a log of any size whose every row's true install probability is known."""

from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import numpy as np
import polars as pl

from model.data.dataset import Dataset, Facts
from model.data.splits import split_counts
from model.data.synthetic_config import DAYTIMES, SyntheticConfig
from model.data.synthetic_log import Shelf, Step, first_shelves, play
from model.data.synthetic_truth import AGE_GROUPS, CATEGORIES, COUNTRIES, DEVICES, TAGS, Floats, Ints, Truth, draw_truth
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, LogSpec, Source

__all__ = ["SyntheticConfig", "World", "dataset", "generate", "schema"]

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
SECONDS_PER_STEP = 86_400 // len(DAYTIMES)


@dataclass(frozen=True)
class World:
    """A log folder's three frames, and apart from them what only the maker of the world knows.

    events: user_id, app_id, at, request_id, position, daytime, weekday, network, kind ("install" or "skip");
    apps: app_id, category, developer, tags, price, rating, size_mb, available, countries;
    users: user_id, country, age_group, device, spend, visits (a month), installed (before the log);
    probability: (B,) true install probability of each event; terms: the named parts of its logit but the intercept.
    """

    truth: Truth
    events: pl.DataFrame
    apps: pl.DataFrame
    users: pl.DataFrame
    probability: Floats
    terms: pl.DataFrame


def generate(config: SyntheticConfig) -> World:
    """Make the store: equal configs give equal worlds."""
    for_truth, for_shelves, for_log, for_times = np.random.default_rng(config.seed).spawn(4)
    truth = draw_truth(config, for_truth)
    owned = first_shelves(truth, for_shelves)
    shelf = Shelf(truth)
    shelf.add(*owned)
    steps = list(play(truth, shelf, for_log))
    events = pl.concat([_events(truth, step, for_times) for step in steps])
    terms = pl.concat([pl.DataFrame(step.terms) for step in steps])
    probability = np.concatenate([step.probability for step in steps])
    order = np.argsort(events["at"].to_numpy(), kind="stable")
    return World(truth, events[order], _apps(truth), _users(truth, owned), probability[order], terms[order])


def schema() -> FeatureSchema:
    """Fields and crosses that suit the store; position is left out, since no request knows it."""
    user = [_field(name, Source.USER) for name in ("country", "age_group", "device")]
    context = [_field(name, Source.CONTEXT) for name in ("daytime", "weekday", "network")]
    app = [_field(name, Source.APP) for name in ("app_id", "category", "developer")]
    numbers = [_field(name, Source.APP, kind=Kind.CONTINUOUS) for name in ("price", "rating", "size_mb")]
    return FeatureSchema(
        fields=(
            *user,
            _field("spend", Source.USER, kind=Kind.CONTINUOUS),
            _field("visits", Source.USER, kind=Kind.CONTINUOUS),
            *context,
            FieldSpec(name="installed", source=Source.HISTORY, kind=Kind.MULTI, max_values=100),
            *app,
            _field("tags", Source.APP, kind=Kind.MULTI),
            *numbers,
        ),
        crosses=(
            CrossSpec(fields=("installed", "app_id"), bits=20),
            CrossSpec(fields=("daytime", "app_id"), bits=14),
        ),
        log=LogSpec(at="at", request="request_id", position="position", label="kind", positive=("install",)),
    )


def dataset(config: SyntheticConfig) -> tuple[Dataset, Floats]:
    """A store ready to train on, split by day, and (B,) the true probability of each of its examples."""
    world = generate(config)
    label = pl.col("kind").eq("install").cast(pl.Int8).alias("label")
    examples = world.events.with_columns(label, _split(config).alias("split")).drop("kind")
    examples = examples.join(world.users.drop("installed"), on="user_id", how="left", maintain_order="left")
    return Dataset(schema(), examples, world.apps, world.users, _facts(examples)), world.probability


def _split(config: SyntheticConfig) -> pl.Expr:
    day = (pl.col("at").dt.date() - config.start).dt.total_days()
    held = max(1, config.days // 10)
    late = pl.when(day >= config.days - held).then(pl.lit("gate"))
    return late.when(day >= config.days - 2 * held).then(pl.lit("stop")).otherwise(pl.lit("train"))


def _facts(examples: pl.DataFrame) -> Facts:
    counts = split_counts(examples)
    window = (examples["at"][0].isoformat(), examples["at"][-1].isoformat())
    return Facts("synthetic", timed=True, sampling_rate=1.0, negatives="logged", window=window, counts=counts)


def _field(name: str, source: Source, *, kind: Kind = Kind.CATEGORICAL) -> FieldSpec:
    return FieldSpec(name=name, source=source, kind=kind)


def _events(truth: Truth, step: Step, rng: np.random.Generator) -> pl.DataFrame:
    rows, number = step.rows, step.rows.day * len(DAYTIMES) + step.rows.daytime
    begins = datetime.combine(truth.config.start, time(), tzinfo=UTC) + timedelta(seconds=number * SECONDS_PER_STEP)
    late = rng.integers(SECONDS_PER_STEP * 1_000_000, size=truth.config.users)[rows.user]
    return pl.DataFrame({"late": late, "visit": step.visit, "position": rows.position}).select(
        _user_names(truth).gather(rows.user).alias("user_id"),
        _app_names(truth).gather(rows.app).alias("app_id"),
        (pl.lit(begins).cast(pl.Datetime("us", "UTC")) + pl.duration(microseconds="late")).alias("at"),
        pl.format("r{}-{}", pl.lit(number), "visit").alias("request_id"),
        pl.col("position").cast(pl.Int32),
        pl.lit(DAYTIMES[rows.daytime]).alias("daytime"),
        pl.lit(WEEKDAYS[begins.weekday()]).alias("weekday"),
        pl.Series("network", np.where(rows.mobile, "mobile", "wifi")),
        pl.Series("kind", np.where(step.installed, "install", "skip")),
    )


def _apps(truth: Truth) -> pl.DataFrame:
    apps, count = truth.apps, truth.config.apps
    return pl.DataFrame(
        {
            "app_id": _app_names(truth),
            "category": _texts(CATEGORIES, apps.category),
            "developer": [f"studio{number}" for number in apps.developer],
            "tags": pl.Series([[TAGS[number] for number in row] for row in apps.tags], dtype=pl.List(pl.String)),
            "price": apps.price,
            "rating": pl.Series(apps.rating).fill_nan(None),
            "size_mb": apps.size_mb,
            "available": np.ones(count, dtype=np.bool_),
            "countries": pl.Series([[]] * count, dtype=pl.List(pl.String)),
        }
    )


def _users(truth: Truth, owned: tuple[Ints, Ints]) -> pl.DataFrame:
    users, names = truth.users, _user_names(truth)
    pairs = pl.DataFrame({"user_id": names.gather(owned[0]), "installed": _app_names(truth).gather(owned[1])})
    installed = pairs.group_by("user_id", maintain_order=True).agg("installed")
    frame = pl.DataFrame(
        {
            "user_id": names,
            "country": _texts(COUNTRIES, users.country),
            "age_group": _texts(AGE_GROUPS, users.age_group),
            "device": _texts(DEVICES, users.device),
            "spend": users.spend,
            "visits": users.visits,
        }
    )
    nothing = pl.lit([], dtype=pl.List(pl.String))
    return frame.join(installed, on="user_id", how="left", maintain_order="left").with_columns(
        pl.col("installed").fill_null(nothing)
    )


def _texts(names: tuple[str | None, ...], numbers: Ints) -> pl.Series:
    return pl.Series(names, dtype=pl.String).gather(numbers)


def _user_names(truth: Truth) -> pl.Series:
    return pl.Series([f"u{number}" for number in range(truth.config.users)])


def _app_names(truth: Truth) -> pl.Series:
    return pl.Series([f"com.{CATEGORIES[c]}.app{n}" for n, c in enumerate(truth.apps.category)])
