"""What the gate says: named checks with what was observed and what is allowed, the limits, and the report."""

import math
from dataclasses import dataclass
from typing import Literal, Self

import msgspec
from pydantic import BaseModel, ConfigDict, Field

Outcome = Literal["passed", "failed", "skipped"]
PrecisionSetting = Literal["auto", "exact", "fast"]
"""What an operator asks to be served in: `fast`, `exact`, or fast where the gate has shown that it agrees."""


class Limits(BaseModel):
    """What the gate allows. A margin is how far the challenger may fall behind what it is judged against."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    auc_margin: float = Field(0.01, ge=0, description="AUC that may be lost")
    log_loss_margin: float = Field(0.02, ge=0, description="Log loss that may be added, as a share of live's")
    calibration_margin: float = Field(0.25, ge=0, description="|ln(predicted / observed)| that may be added")
    ndcg_margin: float = Field(0.02, ge=0, description="NDCG@10 that may be lost")
    slice_widening: float = Field(2.0, ge=1, description="A slice's margins are this many times those of the whole")
    slice_minimum: int = Field(500, ge=1, description="Rows below which a slice is skipped")
    slice_class_minimum: int = Field(100, ge=1, description="Positives, and negatives, below which a slice is skipped")
    score_shift: float = Field(3.0, ge=0, description="Largest PSI of the scores against live's")
    top_10_overlap: float = Field(0.1, ge=0, le=1, description="Least share of live's ten best apps kept")
    precision: PrecisionSetting = Field("auto", description="What is to serve: only for fast must fast agree")
    order_agreement: float = Field(0.98, ge=0, le=1, description="Least share of the reference's ten that fast keeps")
    golden_tolerance: float = Field(1e-5, ge=0, description="Largest difference of a golden score when scored again")
    golden_spread: float = Field(1e-6, ge=0, description="Least relative spread of the scores within a request")
    latency_ratio: float = Field(3.0, gt=0, description="Largest time a request over live's")
    load_s: float = Field(60.0, gt=0, description="Longest time to load, in seconds")
    memory_mib: float = Field(4096.0, gt=0, description="Most memory that loading takes, in MiB")
    resamples: int = Field(200, ge=20, description="Resamples of a bootstrap")
    seed: int = Field(0, ge=0, description="Seed of the bootstraps")


@dataclass(frozen=True)
class Check:
    """One line of a report. limit: what `observed` is held against; both None where nothing could be observed."""

    name: str
    outcome: Outcome
    observed: float | str | None
    limit: float | str | None
    detail: str

    @classmethod
    def at_most(cls, name: str, observed: float, *, limit: float, detail: str) -> Self:
        """Passed where the observed value is at most the limit; a value that is not finite fails."""
        return cls(name, "passed" if observed <= limit else "failed", _rounded(observed), _rounded(limit), detail)

    @classmethod
    def at_least(cls, name: str, observed: float, *, limit: float, detail: str) -> Self:
        """Passed where the observed value is at least the limit; NaN fails."""
        return cls(name, "passed" if observed >= limit else "failed", _rounded(observed), _rounded(limit), detail)

    @classmethod
    def failed(cls, name: str, observed: str, *, limit: str) -> Self:
        """Failed, and no number says why."""
        return cls(name, "failed", observed, limit, "")

    @classmethod
    def skipped(cls, name: str, detail: str) -> Self:
        """Not judged, which is not passed; the detail says why."""
        return cls(name, "skipped", None, None, detail)

    @property
    def told(self) -> str:
        """The check in a line."""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.name} {self.observed}, limit {self.limit}{detail}"


@dataclass(frozen=True)
class GateReport:
    """The gate's verdict. against: the live version at the time or "popularity"; at: ISO 8601, UTC."""

    version: str
    against: str
    at: str
    checks: tuple[Check, ...]

    @property
    def failures(self) -> tuple[Check, ...]:
        """The checks that failed, in order."""
        return tuple(check for check in self.checks if check.outcome == "failed")

    @property
    def passed(self) -> bool:
        """True where something was checked and nothing failed."""
        return not self.failures and any(check.outcome == "passed" for check in self.checks)

    def to_json(self) -> str:
        """The report as JSON text."""
        return msgspec.json.encode(self).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> "GateReport":
        """Undo `to_json`. Raises msgspec.DecodeError for anything else."""
        return msgspec.json.decode(text, type=GateReport)


def encode_checks(checks: list[Check]) -> bytes:
    """Checks as JSON, to hand from one process to another."""
    return msgspec.json.encode(checks)


def decode_checks(content: bytes) -> list[Check]:
    """Undo `encode_checks`. Raises msgspec.DecodeError."""
    return msgspec.json.decode(content, type=list[Check])


def _rounded(number: float) -> float | str:
    """Six digits, as many as a report needs; what JSON has no number for as text."""
    return float(f"{number:.6g}") if math.isfinite(number) else str(number)
