"""Many contestants on the same rows: each measure with its interval, and what each gains over one of them.

One set of draws serves all of them, so that every difference is a paired one. Shapes: B rows, U units, C contestants.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from zlib import crc32

import numpy as np
import numpy.typing as npt

from model.checks import MEASURES, Floats, Holdout, Ids, Mask, Measure
from model.metrics import Interval, MetricUndefined, Statistic

PER_GROUP = "ndcg_at_10"
LEAST_UNITS = 30
LEAST_DRAWN = 10
"""Of fewer units the resamples are so much alike, or of one the same, that their middle is too narrow to be shown."""


@dataclass(frozen=True)
class Rows:
    """The rows that all are judged on.

    label: (B,) float64; group: (B,) int64, rows ranked together; unit: (B,) int64 from 0, what a resample draws, each
    a whole number of groups; slices: name -> (B,).
    """

    label: Floats
    group: Ids
    unit: Ids
    slices: Mapping[str, Mask]

    @property
    def units(self) -> int:
        """How many units there are to draw."""
        return int(self.unit.max(initial=-1)) + 1

    def only(self, mask: Mask) -> "Rows":
        """The rows of one slice; its units are counted anew."""
        return Rows(self.label[mask], self.group[mask], numbered(self.unit[mask]), {})


@dataclass(frozen=True)
class Draws:
    """How a bootstrap draws. progress: called after each contestant's measure."""

    resamples: int = 200
    seed: int = 0
    progress: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Estimate:
    """One measure of one contestant.

    value: the mean over its seeds; deviation: the standard deviation over them, None of one; around: 95 % of the
    resamples, None where none has a value or there are none; gain: over the baseline, the difference of both values
    amid 95 % of the paired resamples', larger is better whatever the measure, None for the baseline and likewise.
    """

    value: float
    deviation: float | None
    around: Interval | None
    gain: Interval | None


Scores = Mapping[str, Sequence[Floats]]
"""Contestant -> (B,) probabilities of each of its seeds."""

Standing = dict[str, Estimate]
"""Measure -> estimate; a measure that is undefined on these rows is left out."""


def units_of(users: npt.ArrayLike, group: Ids) -> tuple[Ids, str]:
    """(B,) what a resample draws, and its name: users, who come back, else what is ranked together.

    A user's rows are alike, so that to draw rows one by one would make intervals too narrow.
    """
    by_user = numbered(users)
    if by_user.max(initial=-1) + 1 >= LEAST_UNITS:
        return by_user, "users"
    return numbered(group), "groups of rows ranked together"


def numbered(values: npt.ArrayLike) -> Ids:
    """(B,) each value's place among the different ones."""
    places: Ids = np.unique(np.asarray(values), return_inverse=True)[1]
    return places.reshape(-1)


def statistic(measure: Measure, rows: Rows, score: Floats) -> Statistic:
    """A measure of one score (B,) whose units are those of `rows`. Raises MetricUndefined."""
    plain = measure.of(Holdout(rows.label, score, score, rows.group, {}), score)
    units = _unit_of_groups(rows) if measure.name == PER_GROUP else rows.unit
    return Statistic(rows.units, lambda weights: plain.under(weights[units]))


def _unit_of_groups(rows: Rows) -> Ids:
    """The unit of each group that holds both classes, in the order of groups."""
    first, places = np.unique(rows.group, return_index=True, return_inverse=True)[1:]
    positives, sizes = np.bincount(places, rows.label), np.bincount(places)
    return rows.unit[first[(positives > 0) & (positives < sizes)]]


def resampled(statistics: Mapping[str, Sequence[Statistic]], draws: Draws) -> Floats:
    """(resamples, C): every contestant's mean over its seeds under the same draws of units (Efron 1979).

    Of several seeds each draw takes as many with replacement, so that an interval holds what another training would
    have changed too; which, hangs on the contestant's name and not on who else is there, so that two of them differ
    by the same wherever they meet. Units are drawn as `model.metrics.paired_bootstrap` draws them.
    """
    size = next(iter(statistics.values()))[0].size
    units = np.random.default_rng(draws.seed)
    seeds = [np.random.default_rng([draws.seed, 1, crc32(name.encode())]) for name in statistics]
    found = np.empty((draws.resamples, len(statistics)))
    for turn in range(draws.resamples):
        weights = np.bincount(units.integers(0, size, size), minlength=size).astype(np.float64)
        for place, mine in enumerate(statistics.values()):
            times = np.bincount(seeds[place].integers(0, len(mine), len(mine)), minlength=len(mine))
            values = [count * one.under(weights) for one, count in zip(mine, times, strict=True) if count]
            found[turn, place] = sum(values) / len(mine)
    return found


def standings(rows: Rows, scores: Scores, *, baseline: str, draws: Draws) -> dict[str, Standing]:
    """Every contestant's measures on these rows; gains are over `baseline`, which is one of them.

    Rows of fewer than LEAST_DRAWN units have values and neither intervals nor gains.
    """
    draws = draws if rows.units >= LEAST_DRAWN else replace(draws, resamples=0)
    found: dict[str, Standing] = {name: {} for name in scores}
    for measure in MEASURES:
        try:
            statistics = {name: [statistic(measure, rows, one) for one in mine] for name, mine in scores.items()}
        except MetricUndefined:
            continue
        drawn = resampled(statistics, draws)
        values = {name: [one.value for one in mine] for name, mine in statistics.items()}
        against = list(statistics).index(baseline)
        for place, (name, mine) in enumerate(values.items()):
            sign = 1.0 if measure.larger_is_better else -1.0
            gain = None if place == against else interval(sign * (drawn[:, place] - drawn[:, against]))
            if gain:  # its middle is what the values differ by, which the mean of some resamples only comes near
                gain = replace(gain, mean=sign * float(np.mean(mine) - np.mean(values[baseline])))
            found[name][measure.name] = _estimate(mine, interval(drawn[:, place]), gain)
        draws.progress()
    return found


def gain(rows: Rows, scores: Scores, pair: tuple[str, str], *, draws: Draws) -> Interval | None:
    """The AUC that the first of a pair has over the second; None where these rows leave it undefined."""
    of, over = pair
    estimate = standings(rows, {name: scores[name] for name in pair}, baseline=over, draws=draws)[of].get("auc")
    return estimate.gain if estimate else None


def interval(values: Floats) -> Interval | None:
    """The middle 95 % of the resamples that have a value, and their mean; None where none has (percentile method)."""
    kept = values[np.isfinite(values)]
    if not kept.size:
        return None
    low, high = np.quantile(kept, [0.025, 0.975])
    return Interval(float(low), float(kept.mean()), float(high))


def _estimate(values: Sequence[float], around: Interval | None, gain: Interval | None) -> Estimate:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return Estimate(float(np.mean(values)), deviation, around, gain)
