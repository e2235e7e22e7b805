"""What a comparison found: a row a contestant, as JSON for programs and as rows for a terminal."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from model.comparison import Estimate, Standing
from model.metrics import Interval
from service.comparing.latency import Served

State = Literal["done", "waiting", "failed"]
MEASURES: Mapping[str, str] = {
    "auc": "AUC",
    "log_loss": "log loss",
    "ndcg_at_10": "NDCG@10",
    "calibration": "miscalibration",
}
"""The measures in the order they are shown; miscalibration is |ln(predicted / observed)|, 0 when right."""


@dataclass(frozen=True)
class Curve:
    """One run epoch by epoch: a record each with `epoch`, `auc` and `log_loss` of the stop split, and `loss`."""

    seed: int
    best_epoch: int
    points: tuple[dict[str, float], ...]


@dataclass(frozen=True)
class Cost:
    """What a contestant costs: means over its runs. parameters: the net's; weights_bytes: on disk, zeros left out."""

    parameters: int
    weights_bytes: int
    train_s: float
    epochs: float
    peak_mib: float


@dataclass(frozen=True)
class Entry:
    """One contestant.

    why: of a failure; standing: on the whole gate split; by_seed: the AUC of each run there; slices: on each slice
    that was judged.
    """

    name: str
    architecture: str
    recipe: str
    config: dict[str, Any]
    state: State
    why: str
    seeds: tuple[int, ...]
    standing: Standing
    by_seed: tuple[float, ...]
    slices: dict[str, Standing]
    cost: Cost | None
    served: Served | None
    curves: tuple[Curve, ...]


@dataclass(frozen=True)
class Halves:
    """What each half of Wide & Deep adds to the other alone, in AUC, paired."""

    whole: str
    wide_adds: Interval | None
    deep_adds: Interval | None


@dataclass(frozen=True)
class Slice:
    """A slice of the gate split, and why it was not judged, empty where it was."""

    name: str
    rows: int
    positives: int
    skipped: str


@dataclass(frozen=True)
class Judged:
    """What all were judged on. source: of the log; counts: rows of each split; drawn: what a resample draws."""

    source: str
    data: str
    counts: dict[str, int]
    drawn: str
    resamples: int
    slices: tuple[Slice, ...]


@dataclass(frozen=True)
class Report:
    """A comparison, finished or as far as it has come. created_at: ISO 8601, UTC."""

    created_at: str
    software: str
    machine: str
    judged: Judged
    baseline: str
    seeds: int
    finished: bool
    entries: tuple[Entry, ...]
    halves: Halves | None
    notes: tuple[str, ...] = ()

    def ranked(self) -> list[Entry]:
        """The contestants by AUC, best first; those without one after them, in the order they were named."""
        return sorted(self.entries, key=lambda one: -_auc(one))

    @property
    def failed(self) -> list[Entry]:
        """Those that came to no end."""
        return [one for one in self.entries if one.state == "failed"]

    def as_json(self) -> dict[str, Any]:
        """Plain values; what is not finite is null."""
        plain: dict[str, Any] = _finite(asdict(self))
        return plain

    def to_json(self) -> str:
        """The same as text."""
        return json.dumps(self.as_json(), indent=2, allow_nan=False) + "\n"


COLUMNS = (
    "contestant", "AUC", "95 %", "gain over baseline, 95 %", "log loss", "NDCG@10", "miscal.", "parameters", "MB",
    "train s", "p50 ms", "p99 ms",
)  # fmt: skip
QUALITY = 7
"""How many of the columns are about quality; the others are about cost. MB: of weights; miscal.: miscalibration."""


def judged_line(report: Report) -> str:
    """What the table is of, in words."""
    judged, seeds = report.judged, f"{report.seeds} seeds each, ± their deviation" if report.seeds > 1 else "one seed"
    around = f"; intervals hold 95 % of {judged.resamples} resamples of {judged.drawn}" if judged.resamples else ""
    return f"Judged on the {judged.counts['gate']:,} rows of the gate split, {seeds}, * the baseline{around}"


def table(report: Report) -> list[tuple[str, ...]]:
    """A row a contestant, best first; one without a run says why in place of figures."""
    return [_row(one, report.baseline) for one in report.ranked()]


def narrow(row: tuple[str, ...]) -> tuple[str, ...]:
    """A row whose reason is only the word for it, since a long one would push all columns apart."""
    said = row[1].partition(":")[0] if not any(row[2:]) else row[1]
    return (row[0], said, *row[2:])


def slice_table(report: Report) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """The AUC and its gain by slice: the columns, and a row a contestant. Slices that were skipped have no column."""
    judged = [one for one in report.judged.slices if not one.skipped]
    columns = ("contestant", *(f"{one.name} ({one.rows})" for one in judged))
    rows = [
        (one.name, *(_with_gain(one.slices.get(part.name, {}).get("auc")) for part in judged))
        for one in report.ranked()
        if one.standing
    ]
    return columns, rows


def _row(entry: Entry, baseline: str) -> tuple[str, ...]:
    name = f"{entry.name} *" if entry.name == baseline else entry.name
    auc, cost, served = entry.standing.get("auc"), entry.cost, entry.served
    said = f"{entry.state}: {entry.why}" if entry.state == "failed" else "not run yet" if not entry.standing else ""
    if not entry.standing:
        return (name, said, *[""] * (len(COLUMNS) - 2))
    return (
        name,
        measured(auc),
        said or span(auc.around if auc else None),
        "the baseline" if entry.name == baseline else signed(auc.gain if auc else None),
        *(measured(entry.standing.get(measure)) for measure in ("log_loss", "ndcg_at_10", "calibration")),
        f"{cost.parameters:,}" if cost else "",
        f"{cost.weights_bytes / 1e6:.2f}" if cost else "",
        f"{cost.train_s:.1f}" if cost else "",
        f"{served.p50_ms:.2f}" if served else "",
        f"{served.p99_ms:.2f}" if served else "",
    )


def measured(one: Estimate | None) -> str:
    """A value, and of several seeds their standard deviation; digits as they mean something."""
    if one is None:
        return ""
    return f"{one.value:.4f}" if one.deviation is None else f"{one.value:.4f} ± {one.deviation:.4f}"


def span(one: Interval | None) -> str:
    """An interval of values."""
    return f"{one.low:.4f} to {one.high:.4f}" if one else ""


def signed(one: Interval | None) -> str:
    """An interval of differences with its mean."""
    return f"{one.mean:+.4f} ({one.low:+.4f} to {one.high:+.4f})" if one else ""


def _with_gain(one: Estimate | None) -> str:
    gained = f", {signed(one.gain)}" if one and one.gain else ""
    return f"{one.value:.4f}{gained}" if one else ""


def skipped_line(report: Report) -> str:
    """Which slices were not judged, and why; empty where all were."""
    skipped = [one for one in report.judged.slices if one.skipped]
    named = ", ".join(f"{one.name} ({one.rows} rows, {one.positives} positive)" for one in skipped)
    return f"Not judged: {named}; {skipped[0].skipped}." if skipped else ""


def halves_line(halves: Halves) -> str:
    """What each half adds, in words."""
    wide, deep = signed(halves.wide_adds), signed(halves.deep_adds)
    return f"{halves.whole}: the wide half adds {wide} AUC to the deep one alone, the deep half {deep} to the wide one"


def _auc(entry: Entry) -> float:
    found = entry.standing.get("auc")
    return found.value if found else -math.inf


def _finite(value: Any) -> Any:  # noqa: ANN401  # JSON
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_finite(one) for one in value]
    return value
