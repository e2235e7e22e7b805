"""How good scores are: functions of 1-D arrays, and the same metrics prepared once for many resamples.

Shapes: B rows, G groups. A metric that has no value for its input raises MetricUndefined with the numbers.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

SMALLEST_PROBABILITY = 1e-15
SMALLEST_SHARE = 1e-4


class MetricUndefined(ValueError):
    """A metric has no value for these rows; the message holds the counts."""


@dataclass(frozen=True)
class Statistic:
    """A metric whose rows were sorted and grouped once.

    size: how many units can be drawn, rows or groups; under: weights (size,) -> the metric under these weights, NaN
    where they leave it undefined.
    """

    size: int
    under: Callable[[Floats], float]

    @property
    def value(self) -> float:
        """The metric of the rows as they are."""
        return self.under(np.ones(self.size))


@dataclass(frozen=True)
class Interval:
    """A 95 % bootstrap interval and the mean within it."""

    low: float
    mean: float
    high: float


def auc(label: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """The chance that a positive scores above a negative, a tie counting half. Raises MetricUndefined."""
    return auc_statistic(label, score).value


def log_loss(label: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Mean negative log likelihood in nats; probabilities are clipped to [1e-15, 1 - 1e-15]."""
    return log_loss_statistic(label, score).value


def calibration(label: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Mean predicted over mean observed, 1.0 when right. Raises MetricUndefined without a positive."""
    labels, scores = _checked("calibration", label, score)
    if not labels.any():
        raise MetricUndefined(f"calibration of {labels.size} rows with 0 positives")
    return float(scores.mean() / labels.mean())


def ndcg_at(k: int, group: npt.ArrayLike, *, label: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Mean NDCG@k over the groups that hold both classes; tied rows share the mean discount of their places.

    Binary gains, log2 discount; ties as in McSherry and Najork 2008, section 2.
    """
    return ndcg_statistic(k, group, label=label, score=score).value


def hit_rate(k: int, group: npt.ArrayLike, *, label: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Share of the groups with a positive that have one in their first k rows; a tie counts against it."""
    labels, scores = _checked("hit rate", label, score)
    ranked = _Ranked.of(group, scores)
    positive = labels[ranked.row] > 0
    if not positive.any():
        raise MetricUndefined(f"hit rate of {positive.size} rows with 0 positives")
    last_place = np.repeat(ranked.place[ranked.tie_ends - 1], ranked.tie_ends - ranked.tie_starts)
    hits = np.unique(ranked.group[positive & (last_place < k)])
    return hits.size / np.unique(ranked.group[positive]).size


def psi(expected: npt.ArrayLike, actual: npt.ArrayLike, *, bins: int = 10) -> float:
    """Population stability index of `actual` over the quantile bins of `expected`: sum of (a - e) ln(a / e)."""
    before, after = np.asarray(expected, dtype=np.float64), np.asarray(actual, dtype=np.float64)
    if not before.size or not after.size:
        raise MetricUndefined(f"PSI of {before.size} expected and {after.size} actual values")
    edges = np.unique(np.quantile(before, np.arange(1, bins) / bins))
    first, second = (
        np.maximum(np.bincount(np.searchsorted(edges, values), minlength=edges.size + 1) / values.size, SMALLEST_SHARE)
        for values in (before, after)
    )
    return float(np.sum((second - first) * np.log(second / first)))


def top_overlap(k: int, group: npt.ArrayLike, *, a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Mean share of the first k rows by `a` that are among the first k by `b`, over the groups of more than k rows."""
    ids, sizes = np.unique(np.asarray(group), return_inverse=True, return_counts=True)[1:]
    if not (sizes > k).any():
        raise MetricUndefined(f"top-{k} overlap of {sizes.size} groups, none of more than {k} rows")
    ranked = (_Ranked.of(ids, np.asarray(score, dtype=np.float64)) for score in (a, b))
    first, second = (one.row[(one.place < k) & (sizes[one.group] > k)] for one in ranked)
    return np.intersect1d(first, second).size / first.size


def paired_bootstrap(a: Statistic, b: Statistic, *, resamples: int = 200, seed: int = 0) -> Interval:
    """The interval of a - b, both over the same drawn units (Efron 1979, percentile method).

    Resamples that leave either undefined are left out; raises MetricUndefined where all are.
    """
    if a.size != b.size:
        raise ValueError(f"{a.size} units beside {b.size}; a paired bootstrap needs the same")
    rng = np.random.default_rng(seed)
    differences = np.empty(resamples)
    for place in range(resamples):
        weights = np.bincount(rng.integers(0, a.size, a.size), minlength=a.size).astype(np.float64)
        differences[place] = a.under(weights) - b.under(weights)
    kept = differences[np.isfinite(differences)]
    if not kept.size:
        raise MetricUndefined(f"none of {resamples} resamples of {a.size} units has a value")
    low, high = np.quantile(kept, [0.025, 0.975])
    return Interval(float(low), float(kept.mean()), float(high))


def auc_statistic(label: npt.ArrayLike, score: npt.ArrayLike) -> Statistic:
    """`auc` over rows: sorted once, then one pass a resample."""
    labels, scores = _checked("AUC", label, score)
    positives = int(labels.sum())
    if positives in (0, labels.size):
        raise MetricUndefined(f"AUC of {positives} positives and {labels.size - positives} negatives")
    order = np.argsort(scores, kind="stable")
    positive = labels[order]
    starts = _starts(scores[order])

    def under(weights: Floats) -> float:
        drawn = weights[order]
        wins = np.add.reduceat(drawn * positive, starts)
        losses = np.add.reduceat(drawn * (1 - positive), starts)
        pairs = wins.sum() * losses.sum()
        below = np.cumsum(losses) - losses / 2
        return _dot(wins, below) / float(pairs) if pairs else np.nan

    return Statistic(labels.size, under)


def log_loss_statistic(label: npt.ArrayLike, score: npt.ArrayLike) -> Statistic:
    """`log_loss` over rows."""
    labels, scores = _checked("log loss", label, score)
    likely = np.clip(np.where(labels > 0, scores, 1 - scores), SMALLEST_PROBABILITY, 1 - SMALLEST_PROBABILITY)
    losses = -np.log(likely)
    return Statistic(labels.size, lambda weights: _dot(weights, losses) / float(weights.sum()))


def miscalibration_statistic(label: npt.ArrayLike, score: npt.ArrayLike) -> Statistic:
    """How far `calibration` is from right, |ln(predicted / observed)|, over rows."""
    labels, scores = _checked("calibration", label, score)
    if not labels.any() or not scores.any():
        raise MetricUndefined(f"calibration of {labels.size} rows with {labels.sum():.0f} positives")

    def under(weights: Floats) -> float:
        predicted, observed = _dot(weights, scores), _dot(weights, labels)
        return float(abs(np.log(predicted / observed))) if predicted > 0 and observed > 0 else np.nan

    return Statistic(labels.size, under)


def ndcg_statistic(k: int, group: npt.ArrayLike, *, label: npt.ArrayLike, score: npt.ArrayLike) -> Statistic:
    """`ndcg_at` over groups: the value of each is computed once."""
    labels, scores = _checked("NDCG", label, score)
    ranked = _Ranked.of(group, scores)
    gained = labels[ranked.row]
    discounts = np.where(ranked.place < k, 1 / np.log2(ranked.place + 2), 0)
    shared = np.add.reduceat(discounts, ranked.tie_starts) / (ranked.tie_ends - ranked.tie_starts)
    gains = gained * np.repeat(shared, ranked.tie_ends - ranked.tie_starts)
    rows, positives = np.bincount(ranked.group), np.bincount(ranked.group, gained).astype(np.int64)
    mixed = (positives > 0) & (positives < rows)
    if not mixed.any():
        raise MetricUndefined(f"NDCG of {rows.size} groups, none with both classes")
    ideal = np.concatenate([[0], np.cumsum(1 / np.log2(np.arange(k) + 2))])[np.minimum(positives, k)]
    values = np.bincount(ranked.group, gains)[mixed] / ideal[mixed]
    return Statistic(values.size, lambda weights: _dot(weights, values) / float(weights.sum()))


@dataclass(frozen=True)
class _Ranked:
    """Rows sorted by group, then by score, best first.

    row, group, place: (B,) int64, the row it was and its place within its group, from 0; tie_starts, tie_ends: where
    each run of equal scores within a group begins and ends.
    """

    row: Ids
    group: Ids
    place: Ids
    tie_starts: Ids
    tie_ends: Ids

    @classmethod
    def of(cls, group: npt.ArrayLike, score: Floats) -> "_Ranked":
        ids = np.unique(np.asarray(group), return_inverse=True)[1]
        order = np.lexsort((-score, ids))
        ids, scores = ids[order], score[order]
        begins = _starts(ids)
        place = np.arange(ids.size) - np.repeat(begins, np.diff(np.append(begins, ids.size)))
        starts = np.union1d(begins, _starts(scores))
        return cls(order, ids, place, starts, np.append(starts[1:], ids.size))


def _starts(values: npt.NDArray[np.generic]) -> Ids:
    """Where each run of equal values begins in (B,) sorted values."""
    return np.flatnonzero(np.append(True, values[1:] != values[:-1]))


def _dot(a: Floats, b: Floats) -> float:
    # Not `a @ b`: BLAS spreads it over threads, which is slower at these sizes and adds up in another order each time.
    return float((a * b).sum())


def _checked(name: str, label: npt.ArrayLike, score: npt.ArrayLike) -> tuple[Floats, Floats]:
    labels, scores = np.asarray(label, dtype=np.float64), np.asarray(score, dtype=np.float64)
    if labels.shape != scores.shape or labels.ndim != 1:
        raise ValueError(f"{name} of labels {labels.shape} and scores {scores.shape}; both must be (B,)")
    if not labels.size:
        raise MetricUndefined(f"{name} of 0 rows")
    if wrong := int(scores.size - np.isfinite(scores).sum()):
        raise MetricUndefined(f"{name} of {scores.size} scores of which {wrong} are not finite")
    return labels, scores
