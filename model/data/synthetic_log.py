"""The log of a synthetic app store, played step by step: visits, what each showed, and what was installed."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.data.synthetic_config import DAYTIMES, TRAFFIC
from model.data.synthetic_truth import Floats, Ints, Rows, Truth

INSTALLED_BEFORE = 8.0
SATURDAY = 5
WIFI = 0.6
DRAWN_PER_SHOWN = 3

Flags = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Step:
    """One step's rows with each row's visit (B,) numbered within the step, terms of the logit, truth and outcome."""

    rows: Rows
    visit: Ints
    terms: dict[str, Floats]
    probability: Floats
    installed: Flags


class Shelf:
    """Which apps each user has, and what follows from it for the truth."""

    def __init__(self, truth: Truth) -> None:
        self.truth = truth
        users = truth.config.users
        self._apps = truth.apps
        self._keys = np.empty(0, dtype=np.int64)
        self._in_head = np.zeros((users, truth.config.head + 1), dtype=np.bool_)
        self._vectors = np.zeros((users, truth.config.rank))
        self._count = np.zeros(users)

    def add(self, user: Ints, app: Ints) -> None:
        """Put apps on their users' devices; each (user, app) at most once over all calls."""
        self._keys = np.union1d(self._keys, self._key(user, app))
        slot = self._apps.slot[app]
        listed = slot < self._in_head.shape[1] - 1
        self._in_head[user[listed], slot[listed]] = True
        np.add.at(self._vectors, user, self._apps.vector[app])
        np.add.at(self._count, user, 1.0)

    def has(self, user: Ints, app: Ints) -> Flags:
        """(B,) whether each user has each app."""
        return np.isin(self._key(user, app), self._keys)

    def in_head(self, user: Ints) -> Flags:
        """(B, H + 1) which of the head's apps each user has; the last column is empty."""
        return self._in_head[user]

    def liked(self, user: Ints) -> Floats:
        """(B, K) the mean vector of each user's apps, zero without any."""
        return np.asarray(self._vectors[user] / np.maximum(self._count[user], 1.0)[:, None])

    def _key(self, user: Ints, app: Ints) -> Ints:
        return user * len(self._apps.slot) + app


def first_shelves(truth: Truth, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """(user, app) of everything installed before each user's first visit, no pair twice, in order of user."""
    count = rng.poisson(INSTALLED_BEFORE, size=truth.config.users)
    user = np.repeat(np.arange(truth.config.users), count)
    app = _draw_apps(truth, rng, day=0, count=user.size)
    pairs = np.unique(np.stack([user, app]), axis=1)
    return pairs[0], pairs[1]


def play(truth: Truth, shelf: Shelf, rng: np.random.Generator) -> Iterator[Step]:
    """Every step of the log in order; installs go onto the shelf before the next step."""
    for day in range(truth.config.days):
        for daytime in range(len(DAYTIMES)):
            step = _step(truth, shelf, rng, when=(day, daytime))
            bought = step.installed
            shelf.add(step.rows.user[bought], step.rows.app[bought])
            yield step


def _step(truth: Truth, shelf: Shelf, rng: np.random.Generator, *, when: tuple[int, int]) -> Step:
    day, daytime = when
    visitors = _visitors(truth, rng, when=when)
    visit, app, position = _shown(shelf, rng, visitors=visitors, day=day)
    user = visitors[visit]
    rows = Rows(
        day=day,
        daytime=daytime,
        weekend=(truth.config.start.weekday() + day) % 7 >= SATURDAY,
        user=user,
        app=app,
        mobile=(rng.random(visitors.size) > WIFI)[visit],
        position=position,
        in_head=shelf.in_head(user),
        liked=shelf.liked(user),
    )
    terms = rows.terms(truth)
    logit = truth.config.intercept + np.sum(list(terms.values()), axis=0)
    probability = rows.examination(truth) / (1.0 + np.exp(-logit))
    return Step(rows, visit, terms, probability, rng.random(user.size) < probability)


def _visitors(truth: Truth, rng: np.random.Generator, *, when: tuple[int, int]) -> Ints:
    """Distinct users who visit in this step."""
    day, daytime = when
    per_day = truth.config.impressions / truth.config.days / truth.config.shelf
    weight = np.where(truth.users.arrived <= day, truth.users.visits, 0.0)
    return rng.choice(weight.size, size=round(per_day * TRAFFIC[daytime]), replace=False, p=weight / weight.sum())


def _shown(shelf: Shelf, rng: np.random.Generator, *, visitors: Ints, day: int) -> tuple[Ints, Ints, Ints]:
    """(visit, app, position) of what is shown: apps drawn by popularity, no app twice, none the user has."""
    truth = shelf.truth
    drawn = DRAWN_PER_SHOWN * truth.config.shelf
    visit = np.repeat(np.arange(visitors.size), drawn)
    app = _draw_apps(truth, rng, day=day, count=visit.size)
    fresh = np.zeros(visit.size, dtype=np.bool_)
    fresh[np.unique(visit * truth.config.apps + app, return_index=True)[1]] = True
    fresh &= ~shelf.has(visitors[visit], app)
    place = fresh.reshape(visitors.size, drawn).cumsum(axis=1).ravel()
    kept = fresh & (place <= truth.config.shelf)
    return visit[kept], app[kept], place[kept]


def _draw_apps(truth: Truth, rng: np.random.Generator, *, day: int, count: int) -> Ints:
    weight = np.where(truth.apps.arrived <= day, truth.apps.shown, 0.0).cumsum()
    return np.asarray(np.searchsorted(weight, rng.random(count) * weight[-1], side="right"))
