"""How large a synthetic app store is and how strong each known effect in it."""

import math
from datetime import date
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

DAYTIMES = ("night", "morning", "afternoon", "evening")
"""The four steps of a day; a user visits at most once in each, so a visit's history is all that happened earlier."""

TRAFFIC = (0.1, 0.25, 0.25, 0.4)
"""Share of a day's visits that fall in each of DAYTIMES."""


class SyntheticConfig(BaseModel):
    """A store's size, its seed and the standard deviation, on the logit, of each effect in it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    users: int = Field(2_000, ge=20, description="users at the log's end")
    apps: int = Field(500, ge=40, description="apps at the log's end")
    days: int = Field(14, ge=3, description="days of the log; the last stop training and judge it")
    impressions: int = Field(300_000, ge=1_000, description="rows of the log, to the nearest visits of each step")
    shelf: int = Field(10, ge=1, le=20, description="apps shown in one visit")
    seed: int = Field(0, ge=0)
    start: date = Field(date(2026, 1, 5), description="first day of the log, which keeps UTC")

    install_rate: float = Field(0.15, gt=0, lt=0.5, description="share of installs among impressions, about")
    popularity: float = Field(0.6, ge=0, description="effect of the app itself")
    activity: float = Field(0.3, ge=0, description="effect of how often the user visits")
    crossed: float = Field(2.5, ge=0, description="size of one crossed effect, where there is one")
    crossed_share: float = Field(0.12, ge=0, le=1, description="share of the head's pairs that carry an effect")
    head: int = Field(25, ge=1, description="most shown apps, among which the crossed effects lie")
    low_rank: float = Field(2.0, ge=0, description="effect of the user's taste on the app's vector")
    rank: int = Field(3, ge=1, description="dimensions of taste")
    smooth: float = Field(0.4, ge=0, description="effect of rating, price, spending and size together")
    context: float = Field(0.2, ge=0, description="effect of the daytime, and of the weekend, on a category")
    position: float = Field(0.15, ge=0, description="examination at position k is k to the power of minus this")
    drift: float = Field(0.02, ge=0, description="standard deviation of one day's step of popularity and of taste")
    arriving: float = Field(0.1, ge=0, lt=1, description="share of users, and of apps, that arrive after the first day")

    @model_validator(mode="after")
    def _fits(self) -> Self:
        busiest = self.impressions / self.days / self.shelf * max(TRAFFIC)
        if busiest > (most := 0.5 * self.users * (1 - self.arriving)):
            raise ValueError(
                f"{busiest:.0f} visits in one evening; with {self.users} users at most {most:.0f} are allowed"
            )
        if self.head + self.shelf > self.apps * (1 - self.arriving):
            raise ValueError(f"a head of {self.head} and a shelf of {self.shelf} do not fit into {self.apps} apps")
        return self

    @property
    def intercept(self) -> float:
        """The logit at which a sum of these effects averages to `install_rate` (MacKay 1992, probit approximation)."""
        effects = (self.popularity, self.activity, self.low_rank, self.smooth, self.context)
        variance = sum(effect**2 for effect in effects) + self.crossed**2 * self.crossed_share
        examined = sum(place**-self.position for place in range(1, self.shelf + 1)) / self.shelf
        rate = self.install_rate / examined
        return math.log(rate / (1 - rate)) * math.sqrt(1 + math.pi * variance / 8)

    @classmethod
    def small(cls, seed: int = 0) -> Self:
        """A store for tests: a second to make."""
        return cls(users=300, apps=120, days=10, impressions=20_000, head=20, seed=seed)

    @classmethod
    def demo(cls, seed: int = 0) -> Self:
        """A store for `appshelf demo`: made, imported and trained in under a minute on 2 cores."""
        return cls(users=1_000, apps=300, days=10, impressions=80_000, head=30, seed=seed)
