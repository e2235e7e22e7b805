"""The quality half of the gate on plain arrays: the challenger's scores beside those it is judged against."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from model.metrics import (
    Interval,
    MetricUndefined,
    Statistic,
    auc_statistic,
    log_loss_statistic,
    miscalibration_statistic,
    ndcg_statistic,
    paired_bootstrap,
    psi,
    top_overlap,
)
from model.report import Check, Limits

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Holdout:
    """B rows that neither training nor early stopping saw, each scored twice.

    label, challenger, baseline: (B,) float64, the baseline being live or, before there is one, popularity; group: (B,)
    int64, rows ranked together; slices: name -> (B,).
    """

    label: Floats
    challenger: Floats
    baseline: Floats
    group: Ids
    slices: Mapping[str, Mask]

    def only(self, rows: Mask) -> "Holdout":
        """The rows of one slice."""
        return Holdout(self.label[rows], self.challenger[rows], self.baseline[rows], self.group[rows], {})


@dataclass(frozen=True)
class Measure:
    """One metric of the gate. margin: the limits and the baseline's value -> what may be lost."""

    name: str
    of: Callable[[Holdout, Floats], Statistic]
    margin: Callable[[Limits, float], float]
    larger_is_better: bool


MEASURES = (
    Measure("auc", lambda rows, score: auc_statistic(rows.label, score), lambda limits, _: limits.auc_margin, True),
    Measure(
        "log_loss",
        lambda rows, score: log_loss_statistic(rows.label, score),
        lambda limits, baseline: limits.log_loss_margin * baseline,
        False,
    ),
    Measure(
        "calibration",
        lambda rows, score: miscalibration_statistic(rows.label, score),
        lambda limits, _: limits.calibration_margin,
        False,
    ),
    Measure(
        "ndcg_at_10",
        lambda rows, score: ndcg_statistic(10, rows.group, label=rows.label, score=score),
        lambda limits, _: limits.ndcg_margin,
        True,
    ),
)


@dataclass(frozen=True)
class Comparison:
    """One measure of both on the same rows. gain: the challenger's over the baseline's, larger is better."""

    challenger: float
    baseline: float
    gain: Interval
    margin: float

    @property
    def detail(self) -> str:
        """Both values and the interval in words."""
        interval = f"{self.gain.low:+.5f} to {self.gain.high:+.5f}"
        return f"{self.challenger:.5f} against {self.baseline:.5f}, gain {self.gain.mean:+.5f} (95 %: {interval})"


def quality_checks(rows: Holdout, limits: Limits) -> list[Check]:
    """Every measure on the whole and on each slice. A score that is not finite is a failed check and ends the list."""
    finite = _finite(rows)
    if finite.outcome == "failed":
        return [finite]
    return [finite, *(_whole(measure, rows, limits) for measure in MEASURES), *_slices(rows, limits)]


def shift_check(rows: Holdout, limits: Limits) -> Check:
    """How far finite scores moved from live's: a wide guard against a net that answers something else altogether."""
    shift = psi(rows.baseline, rows.challenger)
    return Check.at_most("score_shift", shift, limit=limits.score_shift, detail="PSI over live's deciles")


def overlap_check(group: Ids, limits: Limits, *, challenger: Floats, live: Floats) -> Check:
    """How many of live's ten best of each group (B,) the challenger keeps, by finite scores (B,)."""
    try:
        kept = top_overlap(10, group, a=challenger, b=live)
    except MetricUndefined as error:
        return Check.skipped("top_10_overlap", str(error))
    detail = "mean share of live's ten best that are among the challenger's"
    return Check.at_least("top_10_overlap", kept, limit=limits.top_10_overlap, detail=detail)


def _finite(rows: Holdout) -> Check:
    wrong = {name: int(np.sum(~np.isfinite(getattr(rows, name)))) for name in ("challenger", "baseline")}
    detail = f"of {rows.label.size} rows: challenger {wrong['challenger']}, baseline {wrong['baseline']}"
    return Check.at_most("finite_scores", sum(wrong.values()), limit=0, detail=detail)


def _whole(measure: Measure, rows: Holdout, limits: Limits) -> Check:
    """Passed where the interval's lower end is above minus the margin; rows of one class judge nothing and fail."""
    try:
        found = compare(measure, rows, limits)
    except MetricUndefined as error:
        if measure.name == "ndcg_at_10":
            return Check.skipped(measure.name, str(error))
        return Check.failed(measure.name, str(error), limit="rows of both classes")
    return Check.at_least(measure.name, found.gain.low, limit=-found.margin, detail=found.detail)


def _slices(rows: Holdout, limits: Limits) -> Iterator[Check]:
    for name, mask in rows.slices.items():
        part = rows.only(mask)
        positives = int(part.label.sum())
        scarce = min(positives, part.label.size - positives)
        if part.label.size < limits.slice_minimum or scarce < limits.slice_class_minimum:
            needed = f"{limits.slice_minimum} rows with {limits.slice_class_minimum} of either class are needed"
            yield Check.skipped(f"slice[{name}]", f"{part.label.size} rows, {positives} positive; {needed}")
            continue
        for measure in MEASURES:
            yield _part(measure, part, limits, name=f"{measure.name}[{name}]")


def _part(measure: Measure, rows: Holdout, limits: Limits, *, name: str) -> Check:
    """As the whole with a wider margin; where the loss is within it but the interval is not, the rows are too few."""
    try:
        found = compare(measure, rows, limits)
    except MetricUndefined as error:
        return Check.skipped(name, str(error))
    margin = found.margin * limits.slice_widening
    if found.gain.low < -margin <= found.gain.mean:
        return Check.skipped(name, f"too few rows to tell a loss of {margin:.3g}: {found.detail}")
    return Check.at_least(name, found.gain.low, limit=-margin, detail=found.detail)


def compare(measure: Measure, rows: Holdout, limits: Limits) -> Comparison:
    """One measure on rows with finite scores. Raises MetricUndefined."""
    challenger, baseline = measure.of(rows, rows.challenger), measure.of(rows, rows.baseline)
    better, worse = (challenger, baseline) if measure.larger_is_better else (baseline, challenger)
    gain = paired_bootstrap(better, worse, resamples=limits.resamples, seed=limits.seed)
    return Comparison(challenger.value, baseline.value, gain, measure.margin(limits, baseline.value))
