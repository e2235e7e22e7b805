"""Ten days of the whole loop: a population with a known truth uses the real HTTP service, which retrains each night.

    python -m bench.loop [--days 10] [--seed 1] [--json FILE] [--plot docs/loop.png]

Every arm begins with the same past, sees the same visitors, moments, candidates and luck, and differs only in who puts
the candidates in order: popularity (installs by impressions so far, counted anew each night), the version of day 0
frozen, nightly retraining from scratch on the whole log, nightly warm start on the new day with old rows among it, and
the oracle, which knows the truth. Tastes and popularity drift, and apps and users keep arriving. The three service arms
each have a server of their own, on a copy of one home whose log holds the past; each night a job retrains, the gate
decides, and only what passes serves.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bench.loop_service import SHOWN, WINDOW_S, Service
from bench.loop_start import begin
from bench.population import Population, Visits, past
from bench.server import Home, free_port, serving
from model.data.synthetic import SyntheticConfig, World, generate
from model.data.synthetic_log import Flags
from model.data.synthetic_truth import Floats, Ints

FIRST_DAY = 6
PRIOR_ROWS = 10.0
SETTINGS = {"APPSHELF_ATTRIBUTION_WINDOW_S": str(WINDOW_S), "APPSHELF_LOG_LEVEL": "warning"}
RETRAIN: Mapping[str, dict[str, Any] | None] = {
    "frozen": None,
    "scratch": {"mode": "full", "scratch": True},
    "warm": {"mode": "incremental"},
}
"""What each service arm asks of `POST /admin/retrain` after a day."""


@dataclass
class Day:
    """One arm's day. train_s and promoted: of the night after it, None where there was no retraining."""

    impressions: int = 0
    installs: int = 0
    train_s: float | None = None
    epochs: float | None = None
    promoted: bool | None = None
    failures: list[str] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """Installs per 1,000 impressions."""
        return 1000 * self.installs / max(self.impressions, 1)


Order = Callable[[Visits], Ints]
"""Visits to (V, SHOWN) places among each visit's candidates, best first, -1 for no more."""


def config(seed: int, days: int) -> SyntheticConfig:
    """A world of FIRST_DAY days of past and `days` of the loop, with more drift and arrivals than the demo's."""
    length = FIRST_DAY + days
    return SyntheticConfig(
        users=2_500, apps=300, days=length, impressions=15_000 * length, head=30, drift=0.1, arriving=0.3, seed=seed
    )


def best(scores: Floats, allowed: Flags) -> Ints:
    """(V, SHOWN) places of the highest scores that are allowed."""
    held = np.where(allowed, scores, -np.inf)
    places = np.argsort(-held, axis=1, kind="stable")[:, :SHOWN]
    return np.where(np.isfinite(np.take_along_axis(held, places, axis=1)), places, -1)


def live_a_day(people: Population, day: int, order: Order, after: Callable[[Visits, Ints, Flags], None]) -> Day:
    """Every step of a day: who comes is shown what `order` says, and `after` is told what they installed."""
    told = Day()
    for visits in people.steps(day):
        places = order(visits)
        installed = people.show(visits, places)
        told.impressions += int((places >= 0).sum())
        told.installs += int(installed.sum())
        after(visits, places, installed)
    return told


class Popularity:
    """Installs by impressions so far, smoothed; what today brings counts from tomorrow on."""

    def __init__(self, world: World, people: Population) -> None:
        self._people = people
        log = past(world, first_day=FIRST_DAY).examples.with_columns(
            app=pl.col("app_id").str.extract(r"(\d+)$").cast(pl.Int64)
        )
        count = world.truth.config.apps
        self._shown = np.bincount(log["app"].to_numpy(), minlength=count).astype(np.float64)
        self._installed = np.bincount(log["app"].to_numpy(), log["label"].to_numpy(), minlength=count)
        self.night()

    def night(self) -> None:
        """Count the day that ended."""
        base = self._installed.sum() / self._shown.sum()
        self._rate = (self._installed + PRIOR_ROWS * base) / (self._shown + PRIOR_ROWS)

    def order(self, visits: Visits) -> Ints:
        """The most installed first."""
        return best(self._rate[visits.candidates], self._people.lacks(visits))

    def learn(self, visits: Visits, places: Ints, installed: Flags) -> None:
        """Keep what was shown and installed for the night."""
        apps = np.take_along_axis(visits.candidates, np.maximum(places, 0), axis=1)
        np.add.at(self._shown, apps[places >= 0], 1)
        np.add.at(self._installed, apps[installed], 1)


def arm(name: str, world: World, *, days: int, folder: Path) -> Iterator[Day]:
    """One arm's days."""
    people = Population(world, first_day=FIRST_DAY, seed=world.truth.config.seed)
    calendar = range(FIRST_DAY, FIRST_DAY + days)
    if name == "oracle":
        for day in calendar:
            yield live_a_day(
                people, day, lambda visits: best(people.chances(visits), people.lacks(visits)), lambda *_: None
            )
    elif name == "popularity":
        popularity = Popularity(world, people)
        for day in calendar:
            yield live_a_day(people, day, popularity.order, popularity.learn)
            popularity.night()
    else:
        yield from _served(name, world, people, folder=folder, calendar=calendar)


def _served(name: str, world: World, people: Population, *, folder: Path, calendar: range) -> Iterator[Day]:
    home = Home(folder / name, free_port(), SETTINGS)
    if not (start := Home(folder / "start", home.port, SETTINGS)).root.exists():
        begin(start, world, first_day=calendar[0])
    shutil.copytree(start.root, home.root)
    with serving(home, workers=1):
        service = Service(world, people, home)
        for day in calendar:
            service.welcome(day)
            told = live_a_day(people, day, service.order, service.learn)
            if (asked := RETRAIN[name]) is not None:
                note_night(told, service.night(asked))
            yield told


def note_night(told: Day, result: Mapping[str, Any]) -> None:
    """Keep what the night's job came to."""
    told.train_s, told.promoted = result["seconds"]["train"], result["promoted"]
    told.epochs = result["training"]["epochs"]
    told.failures = [check["name"] for check in result["report"]["checks"] if check["outcome"] == "failed"]


def table(arms: Mapping[str, Sequence[Day]]) -> str:
    """Installs per 1,000 impressions by day and arm, then what each night cost."""
    names = list(arms)
    lines = ["day  " + "".join(f"{name:>12}" for name in names)]
    for day in range(len(arms[names[0]])):
        lines.append(f"{day + 1:>3}  " + "".join(f"{arms[name][day].rate:>12.1f}" for name in names))
    lines.append("mean " + "".join(f"{mean_rate(arms[name]):>12.1f}" for name in names))
    for name in ("scratch", "warm"):
        nights = [day for day in arms.get(name, []) if day.train_s is not None]
        told = ", ".join(
            f"{day.train_s:.1f}{'' if day.promoted else ' (kept out: ' + ' '.join(day.failures) + ')'}"
            for day in nights
        )
        lines.append(f"{name}: training took {sum(day.train_s or 0 for day in nights):.1f} s in all: {told}")
    return "\n".join(lines)


def mean_rate(days: Sequence[Day]) -> float:
    """Installs per 1,000 impressions over all days."""
    return 1000 * sum(day.installs for day in days) / max(sum(day.impressions for day in days), 1)


def verdict(arms: Mapping[str, Sequence[Day]]) -> dict[str, float]:
    """How much of scratch's gain over popularity warm start keeps, after the first night, and in what share of time."""
    base, scratch, warm = (mean_rate(arms[name][1:]) for name in ("popularity", "scratch", "warm"))
    seconds = {name: sum(day.train_s or 0.0 for day in arms[name]) for name in ("scratch", "warm")}
    frozen = mean_rate(arms["frozen"][1:])
    return {
        "share_of_gain_over_popularity": (warm - base) / (scratch - base),
        "share_of_gain_over_frozen": (warm - frozen) / (scratch - frozen),
        "share_of_training_time": seconds["warm"] / seconds["scratch"],
    }


def plot(arms: Mapping[str, Sequence[Day]], file: Path) -> None:
    """A line an arm."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.5))
    for name, days in arms.items():
        axes.plot(range(1, len(days) + 1), [day.rate for day in days], marker="o", label=name)
    axes.set(xlabel="day", ylabel="installs per 1,000 impressions", title="Ten days of the loop")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Run every arm and print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench.loop", description=__doc__)
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--arms", nargs="+", default=["popularity", "frozen", "scratch", "warm", "oracle"])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--plot", type=Path)
    options = parser.parse_args()
    world = generate(config(options.seed, options.days))
    arms: dict[str, list[Day]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for name in options.arms:
            arms[name] = []
            for day in arm(name, world, days=options.days, folder=Path(folder)):
                arms[name].append(day)
                print(f"{name} day {len(arms[name])}: {day}", flush=True)
    print(table(arms))
    found = verdict(arms) if {"popularity", "frozen", "scratch", "warm"} <= arms.keys() else {}
    for key, value in found.items():
        print(f"{key.replace('_', ' ')}: {100 * value:.1f} %")
    if options.json:
        told = {name: [asdict(day) for day in days] for name, days in arms.items()}
        options.json.write_text(json.dumps({"arms": told, "verdict": found}, indent=2), encoding="utf-8")
    if options.plot:
        plot(arms, options.plot)


if __name__ == "__main__":
    main()
