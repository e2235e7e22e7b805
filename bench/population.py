"""A population that lives in the synthetic store's truth: who visits, what they could be shown, what they install."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta

import numpy as np
import polars as pl

from model.data.dataset import Dataset, Facts
from model.data.splits import split_counts
from model.data.synthetic import WEEKDAYS, World, schema
from model.data.synthetic_config import DAYTIMES, TRAFFIC
from model.data.synthetic_log import SATURDAY, WIFI, Flags, Shelf
from model.data.synthetic_truth import Floats, Ints, Rows

CANDIDATES = 60
HELD_DAYS = 1
AT_ONCE = 100
"""Visits that are shown their lists before what they install is told: an attribution window in a bench is seconds."""


@dataclass(frozen=True)
class Visits:
    """V visits of one step, by as many users.

    mobile: (V,); candidates: (V, C) apps drawn for each; luck: (V, C) uniform numbers that decide what is installed.
    """

    day: int
    daytime: int
    user: Ints
    mobile: Flags
    candidates: Ints
    luck: Floats

    def context(self, world: World, visit: int) -> dict[str, str]:
        """What a client would send of one visit's moment."""
        weekday = WEEKDAYS[(world.truth.config.start.weekday() + self.day) % 7]
        network = "mobile" if self.mobile[visit] else "wifi"
        return {"daytime": DAYTIMES[self.daytime], "weekday": weekday, "network": network}


class Population:
    """The users of one arm of a comparison: equal worlds and seeds visit alike, whatever they were shown before."""

    def __init__(self, world: World, *, first_day: int, seed: int) -> None:
        self.world = world
        self._seed = seed
        self._shelf = Shelf(world.truth)
        before = world.users.select("user_id", app_id="installed").explode("app_id").drop_nulls()
        early = world.events.filter(until(world, first_day) & (pl.col("kind") == "install"))
        self._install(pl.concat([before, early.select("user_id", "app_id")]).unique())

    def steps(self, day: int) -> Iterator[Visits]:
        """The visits of a day in order, a few at a time; nobody visits twice within one step of it."""
        truth = self.world.truth
        per_day = truth.config.impressions / truth.config.days / truth.config.shelf
        for daytime, share in enumerate(TRAFFIC):
            rng = np.random.default_rng((self._seed, day, daytime))
            weight = np.where(truth.users.arrived <= day, truth.users.visits, 0.0)
            count = round(per_day * share)
            user = rng.choice(weight.size, size=count, replace=False, p=weight / weight.sum())
            mobile, drawn = rng.random(count) > WIFI, self._drawn(rng, count, day)
            luck = rng.random((count, CANDIDATES))
            for first in range(0, count, AT_ONCE):
                part = slice(first, first + AT_ONCE)
                yield Visits(day, daytime, user[part], mobile[part], drawn[part], luck[part])

    def lacks(self, visits: Visits) -> Flags:
        """(V, C) which candidates the visitor does not have yet."""
        users = np.repeat(visits.user, CANDIDATES)
        return ~self._shelf.has(users, visits.candidates.ravel()).reshape(visits.candidates.shape)

    def chances(self, visits: Visits) -> Floats:
        """(V, C) the true probability that each candidate is installed if shown first."""
        shape = visits.candidates.shape
        return self._probability(visits, visits.candidates, np.ones(shape, dtype=np.int64))

    def show(self, visits: Visits, places: Ints) -> Flags:
        """(V, S) what is installed of the candidates at `places` (V, S), shown in that order, -1 for no more."""
        app = np.take_along_axis(visits.candidates, np.maximum(places, 0), axis=1)
        position = np.broadcast_to(np.arange(1, places.shape[1] + 1), places.shape)
        luck = np.take_along_axis(visits.luck, np.maximum(places, 0), axis=1)
        installed = (luck < self._probability(visits, app, position)) & (places >= 0)
        owners = np.broadcast_to(visits.user[:, None], places.shape)
        self._shelf.add(owners[installed], app[installed])
        return np.asarray(installed)

    def _probability(self, visits: Visits, app: Ints, position: Ints) -> Floats:
        truth, width = self.world.truth, app.shape[1]
        user = np.repeat(visits.user, width)
        rows = Rows(
            day=visits.day,
            daytime=visits.daytime,
            weekend=(truth.config.start.weekday() + visits.day) % 7 >= SATURDAY,
            user=user,
            app=app.ravel(),
            mobile=np.repeat(visits.mobile, width),
            position=position.ravel(),
            in_head=self._shelf.in_head(user),
            liked=self._shelf.liked(user),
        )
        logit = truth.config.intercept + np.sum(list(rows.terms(truth).values()), axis=0)
        return np.asarray(rows.examination(truth) / (1.0 + np.exp(-logit))).reshape(app.shape)

    def _drawn(self, rng: np.random.Generator, count: int, day: int) -> Ints:
        """(count, CANDIDATES) distinct apps a visit, by the square root of how often the store shows each."""
        apps = self.world.truth.apps
        weight = np.where(apps.arrived <= day, 0.5 * np.log(apps.shown), -np.inf)
        noisy = weight + rng.gumbel(size=(count, weight.size))  # the largest of these are a draw without replacement
        return np.asarray(np.argpartition(-noisy, CANDIDATES, axis=1)[:, :CANDIDATES])

    def _install(self, pairs: pl.DataFrame) -> None:
        number = pl.col("app_id").str.extract(r"(\d+)$").cast(pl.Int64)
        user = pairs["user_id"].str.strip_prefix("u").cast(pl.Int64).to_numpy()
        self._shelf.add(user, pairs.select(number).to_series().to_numpy())


def until(world: World, day: int) -> pl.Expr:
    """The events before a day of the world."""
    began = datetime.combine(world.truth.config.start, time(), tzinfo=UTC) + timedelta(days=day)
    return pl.col("at") < pl.lit(began).cast(pl.Datetime("us", "UTC"))


def past(world: World, *, first_day: int) -> Dataset:
    """The world's log before `first_day` and who was there by then, as an import would leave it."""
    users = world.users.filter(pl.Series(world.truth.users.arrived < first_day))
    label = pl.col("kind").eq("install").cast(pl.Int8).alias("label")
    examples = world.events.filter(until(world, first_day)).with_columns(label).drop("kind")
    split = pl.lit("train")
    for name, day in (("stop", first_day - 2 * HELD_DAYS), ("gate", first_day - HELD_DAYS)):
        split = pl.when(until(world, day)).then(split).otherwise(pl.lit(name))
    examples = examples.with_columns(split.alias("split")).join(
        world.users.drop("installed"), on="user_id", how="left", maintain_order="left"
    )
    window = (examples["at"][0].isoformat(), examples["at"][-1].isoformat())
    counts = split_counts(examples)
    facts = Facts("synthetic", timed=True, sampling_rate=1.0, negatives="logged", window=window, counts=counts)
    apps = world.apps.filter(pl.Series(world.truth.apps.arrived < first_day))
    return Dataset(schema(), examples, apps, users, facts)
