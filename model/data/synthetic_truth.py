"""The truth behind a synthetic app store: who its users and apps are and what makes a user install an app."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from model.data.synthetic_config import DAYTIMES, SyntheticConfig

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

COUNTRIES = ("BR", "DE", "IN", "JP", "NG", "PT", "SE", "US")
AGE_GROUPS = ("13-17", "18-24", "25-34", "35-49", "50-64", "65+", None)
DEVICES = ("phone", "tablet", "television", None)
CATEGORIES = (
    *("books", "business", "education", "finance", "games", "health"),
    *("maps", "music", "news", "photo", "shopping", "travel"),
)
TAGS = tuple(f"tag{number:02}" for number in range(12))
TAGS_PER_APP = 3
APPS_PER_DEVELOPER = 20
TYPICAL_VISITS = 20.0
TYPICAL_BURDEN = 0.6
HISTORY_WEIGHT = 1.5


@dataclass(frozen=True)
class Apps:
    """A apps, most shown first. Numbers index the tuples of names above; rating is NaN where nobody rated."""

    category: Ints
    developer: Ints
    tags: Ints  # (A, TAGS_PER_APP)
    price: Floats
    rating: Floats
    size_mb: Floats
    arrived: Ints  # day
    shown: Floats  # weight with which the store shows it
    popularity: Floats  # (days, A), on the logit
    vector: Floats  # (A, K)
    slot: Ints  # place in the head, or the head's size for every other app


@dataclass(frozen=True)
class Users:
    """U users. Numbers index the tuples of names above."""

    country: Ints
    age_group: Ints
    device: Ints
    spend: Floats  # a month, in the price's currency
    arrived: Ints  # day
    visits: Floats  # a month, heavy-tailed: how often the user comes and, on the logit, how ready to install
    taste: Floats  # (days, U, K), what the user's features say; the history adds to it


@dataclass(frozen=True)
class Truth:
    """All that decides an install. The tables have a last row (and column) of zeros for apps outside the head."""

    config: SyntheticConfig
    apps: Apps
    users: Users
    pair: Floats  # (H + 1, H + 1): installed app x candidate
    daytime: Floats  # (4, H + 1): daytime x candidate
    category_daytime: Floats  # (4, C)
    category_weekend: Floats  # (2, C)


@dataclass(frozen=True)
class Rows:
    """B rows of one step of the log, with what each row's user had before it."""

    day: int
    daytime: int
    weekend: bool
    user: Ints
    app: Ints
    mobile: NDArray[np.bool_]
    position: Ints  # from 1
    in_head: NDArray[np.bool_]  # (B, H + 1): which apps of the head are installed
    liked: Floats  # (B, K): mean vector of the installed apps, zero without any

    def terms(self, truth: Truth) -> dict[str, Floats]:
        """The named parts of the logit (B,), without the intercept."""
        return {
            "popularity": truth.apps.popularity[self.day, self.app],
            "activity": truth.config.activity * np.log(truth.users.visits[self.user] / TYPICAL_VISITS),
            "crossed": self._crossed(truth),
            "low_rank": self._low_rank(truth),
            "smooth": self._smooth(truth),
            "context": self._context(truth),
        }

    def examination(self, truth: Truth) -> Floats:
        """(B,) the probability that the user looks at this position at all (Richardson et al. 2007)."""
        return np.power(self.position.astype(np.float64), -truth.config.position)

    def _crossed(self, truth: Truth) -> Floats:
        slot = truth.apps.slot[self.app]
        pairs = np.einsum("bh,bh->b", self.in_head, truth.pair.T[slot])
        return np.asarray(pairs + truth.daytime[self.daytime, slot])

    def _low_rank(self, truth: Truth) -> Floats:
        taste = truth.users.taste[self.day, self.user] + HISTORY_WEIGHT * self.liked
        scale = truth.config.low_rank / np.sqrt(2 * truth.config.rank)
        return np.asarray(scale * np.einsum("bk,bk->b", taste, truth.apps.vector[self.app]))

    def _smooth(self, truth: Truth) -> Floats:
        apps, spend = truth.apps, truth.users.spend[self.user]
        quality = np.tanh(np.nan_to_num((apps.rating[self.app] - 4.0) / 0.5, nan=-0.5))
        burden = np.log1p(apps.price[self.app]) * (1.5 - spend / (spend + 10.0)) - TYPICAL_BURDEN
        weight = self.mobile * np.tanh(np.log(apps.size_mb[self.app] / 50.0))
        return truth.config.smooth * (quality - burden - weight)

    def _context(self, truth: Truth) -> Floats:
        category = truth.apps.category[self.app]
        both = truth.category_daytime[self.daytime, category] + truth.category_weekend[int(self.weekend), category]
        return np.asarray(truth.config.context / np.sqrt(2) * both)


def draw_truth(config: SyntheticConfig, rng: np.random.Generator) -> Truth:
    """Everything about a store that is not chance: drawn once, then fixed."""
    head = config.head
    pair = np.zeros((head + 1, head + 1))
    pair[:head, :head] = _sparse(config, rng, (head, head))
    daytime = np.zeros((len(DAYTIMES), head + 1))
    daytime[:, :head] = _sparse(config, rng, (len(DAYTIMES), head))
    return Truth(
        config=config,
        apps=_draw_apps(config, rng),
        users=_draw_users(config, rng),
        pair=pair,
        daytime=daytime,
        category_daytime=rng.standard_normal((len(DAYTIMES), len(CATEGORIES))),
        category_weekend=rng.standard_normal((2, len(CATEGORIES))),
    )


def _sparse(config: SyntheticConfig, rng: np.random.Generator, shape: tuple[int, int]) -> Floats:
    """Effects of one size and either sign at `crossed_share` of the places: full rank, so only memory finds them."""
    present = rng.random(shape) < config.crossed_share
    return np.where(present, rng.choice((-config.crossed, config.crossed), size=shape), 0.0)


def _draw_apps(config: SyntheticConfig, rng: np.random.Generator) -> Apps:
    count, rank = config.apps, config.rank
    category = rng.integers(len(CATEGORIES), size=count)
    developer = rng.integers(max(count // APPS_PER_DEVELOPER, 1), size=count)
    tags = rng.random((count, len(TAGS))).argsort(axis=1)[:, :TAGS_PER_APP]
    tables = (rng.standard_normal((size, rank)) for size in (len(CATEGORIES), developer.max() + 1, len(TAGS)))
    of_category, of_developer, of_tag = tables
    vector = of_category[category] + 0.5 * of_developer[developer] + of_tag[tags].sum(axis=1) / np.sqrt(TAGS_PER_APP)
    shown = 1.0 / np.arange(1, count + 1)
    arrived = _arrivals(config, rng, count)
    arrived[: config.head] = 0
    return Apps(
        category=category,
        developer=developer,
        tags=tags,
        price=np.where(rng.random(count) < 0.5, 0.0, rng.exponential(3.0, count).round(2)),
        rating=np.where((arrived > 0) | (rng.random(count) < 0.05), np.nan, rng.normal(4.0, 0.5, count).clip(1, 5)),
        size_mb=rng.lognormal(np.log(50.0), 1.0, count).round(1),
        arrived=arrived,
        shown=shown,
        popularity=config.popularity * _walk(config, rng, first=rng.standard_normal(count)),
        vector=_standard(vector, shown),
        slot=np.minimum(np.arange(count), config.head),
    )


def _draw_users(config: SyntheticConfig, rng: np.random.Generator) -> Users:
    count = config.users
    features = [rng.integers(len(names), size=count) for names in (COUNTRIES, AGE_GROUPS, DEVICES)]
    taste = np.zeros((config.days, count, config.rank))
    for names, numbers in zip((COUNTRIES, AGE_GROUPS, DEVICES), features, strict=True):
        taste += _walk(config, rng, first=rng.standard_normal((len(names), config.rank)))[:, numbers]
    return Users(
        country=features[0],
        age_group=features[1],
        device=features[2],
        spend=rng.lognormal(2.0, 1.0, count).round(2),
        arrived=_arrivals(config, rng, count),
        visits=rng.lognormal(np.log(TYPICAL_VISITS), 0.8, count).round(1),
        taste=_standard(taste, np.ones(count)),
    )


def _standard(values: Floats, weight: Floats) -> Floats:
    """(..., B, K) shifted and scaled to a mean of 0 and a variance of 1 over B under `weight` (B,)."""
    share = (weight / weight.sum())[:, None]
    centred = values - (share * values).sum(axis=-2, keepdims=True)
    return np.asarray(centred / np.sqrt((share * centred**2).sum(axis=-2, keepdims=True)))


def _arrivals(config: SyntheticConfig, rng: np.random.Generator, count: int) -> Ints:
    """(count,) the day each arrives: the first for most, any later one for the share that arrives."""
    later = rng.random(count) < config.arriving
    return np.where(later, rng.integers(1, config.days, size=count), 0)


def _walk(config: SyntheticConfig, rng: np.random.Generator, *, first: Floats) -> Floats:
    """(days, ...) a slow walk from `first` that takes a step of size `drift` each day."""
    steps = config.drift * rng.standard_normal((config.days, *first.shape))
    steps[0] = first
    return np.asarray(steps.cumsum(axis=0))
