"""What an import found wrong: one fault a bad value, all of them counted, the first of them kept."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import polars as pl

SHOWN_CHARACTERS = 60


class ImportRefused(ValueError):
    """Nothing can be made of this input; the message says what was seen, in numbers, and the next step."""


@dataclass(frozen=True)
class Fault:
    """One bad value: its file, row (1-based, a header not counted), field ("" for a whole line), value and why."""

    file: str
    row: int
    field: str
    value: str
    why: str

    def __str__(self) -> str:
        place = f"{self.file} row {self.row}" + (f", {self.field}" if self.field else "")
        return f"{place}: {self.value}: {self.why}"


@dataclass(frozen=True)
class FileReport:
    """How many rows a file had, how many were good, how many ids came twice, and its columns without a meaning."""

    file: str
    read: int
    kept: int
    duplicates: int = 0
    ignored: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImportReport:
    """What an import read, kept, dropped and added; `counts` has every fault by "field: why", `faults` the first."""

    files: tuple[FileReport, ...]
    faults: tuple[Fault, ...]
    counts: Mapping[str, int]
    other_events: int  # rows of the log that are neither positive nor negative under its label rule
    added_apps: int  # apps that occur in the log only
    negatives: int  # negatives drawn by the named rule; 0 where the log has its own

    @property
    def fault_count(self) -> int:
        """All faults, kept in `faults` or not."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, Any]:
        """The report in plain JSON types."""
        return asdict(self) | {"counts": dict(self.counts), "fault_count": self.fault_count}


class FaultLog:
    """Collects faults during one import: counts all of them, keeps the first `limit`."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.kept: list[Fault] = []
        self.counts: Counter[str] = Counter()

    def add(self, fault: Fault) -> None:
        """Take one fault."""
        self.counts[_reason(fault.field, fault.why)] += 1
        if len(self.kept) < self._limit:
            self.kept.append(fault)

    def add_column(self, file: str, field: str, found: pl.DataFrame) -> None:
        """Take a column's faults: `found` has row, value (any type, may be null) and why for each of them."""
        for why, count in found["why"].value_counts().iter_rows():
            self.counts[_reason(field, why)] += count
        for row in found.head(self._limit - len(self.kept)).iter_rows(named=True):
            self.kept.append(Fault(file, row["row"], field, shown(row["value"]), row["why"]))

    def summary(self, most: int = 3) -> str:
        """The commonest reasons with their counts, and the first fault, as one line."""
        reasons = ", ".join(f"{reason} ({count})" for reason, count in self.counts.most_common(most))
        return f"{reasons}; first: {self.kept[0]}" if self.kept else reasons


def shown(value: object) -> str:
    """A value shortened for a report, on one line, with control characters escaped."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…"


def _reason(field: str, why: str) -> str:
    return f"{field}: {why}" if field else why
