"""From single measurements to medians with their spread, and to ratios between contestants: no measuring here."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Measured:
    """One run of one contestant. cpu_ms: of all its processes, a request; balance: connections each of them held."""

    contestant: str
    round: int
    candidates: int
    connections: int
    per_second: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    cpu_ms: float
    refused: int
    failed: int
    balance: tuple[int, ...]


@dataclass(frozen=True)
class Started:
    """One start of one contestant. start_s: to its first answer; pss_mib: after its runs.

    counted: what appshelf's own metrics counted in its runs, by name; nothing of a peer.
    """

    contestant: str
    round: int
    start_s: float
    pss_mib: float
    counted: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Spread:
    """The median of some runs, and their least and greatest."""

    middle: float
    least: float
    most: float

    @classmethod
    def of(cls, values: Iterable[float]) -> "Spread":
        """Of at least one value."""
        kept = sorted(values)
        return cls(median(kept), kept[0], kept[-1])

    def __str__(self) -> str:
        return f"{_short(self.middle)} [{_short(self.least)}-{_short(self.most)}]"


def _short(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


Cell = tuple[int, int]
"""Candidates a request and connections."""

Figure = Callable[[Measured], float]


def cells(runs: Sequence[Measured]) -> list[Cell]:
    """The cells that were measured, in order."""
    return sorted({(run.candidates, run.connections) for run in runs})


def names(runs: Sequence[Measured]) -> list[str]:
    """The contestants in the order in which they were first measured."""
    return list(dict.fromkeys(run.contestant for run in runs))


def spread(runs: Sequence[Measured], contestant: str, cell: Cell, *, figure: Figure) -> Spread | None:
    """A contestant's figure in a cell over the rounds; None where it was never measured there."""
    found = [figure(r) for r in runs if r.contestant == contestant and (r.candidates, r.connections) == cell]
    return Spread.of(found) if found else None


def ratios(runs: Sequence[Measured], ours: str, theirs: str, *, figure: Figure) -> dict[Cell, Spread]:
    """ours / theirs in each cell where a round measured both: each round's ratio is of two runs close in time."""
    values = {(r.contestant, r.round, r.candidates, r.connections): figure(r) for r in runs}
    found: dict[Cell, list[float]] = {}
    for (name, number, candidates, connections), mine in values.items():
        other = values.get((theirs, number, candidates, connections))
        if name == ours and other:
            found.setdefault((candidates, connections), []).append(mine / other)
    return {cell: Spread.of(values) for cell, values in sorted(found.items())}


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Text in columns, the first to the left and the others to the right."""
    lines = [[str(value) for value in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join([line[0].ljust(widths[0]), *(text.rjust(w) for text, w in zip(line[1:], widths[1:], strict=True))])
        for line in lines
    )
