"""From what training processes print to medians with their spread, and to ratios within each round: no measuring."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench.peers.train_rows import MARK
from bench.serving_table import Spread, table


@dataclass(frozen=True)
class Trained:
    """One epoch of one contestant. cpu_s: of the process and its children; peak_mib: resident, of the process."""

    contestant: str
    work: str
    round: int
    samples: int
    wall_s: float
    cpu_s: float
    peak_mib: float

    @property
    def per_core(self) -> float:
        """Samples in a second of processor time."""
        return self.samples / self.cpu_s

    @property
    def per_second(self) -> float:
        """Samples in a second on the clock, with one thread."""
        return self.samples / self.wall_s


FIGURES: dict[str, Callable[[Trained], float]] = {
    "samples/s per core": lambda run: run.per_core,
    "samples/s by the clock": lambda run: run.per_second,
    "peak MiB": lambda run: run.peak_mib,
}


def parsed(printed: str, contestant: str, work: str, number: int) -> Trained:
    """The last figures that a process printed. Raises ValueError where there are none, with the end of what it said."""
    lines = [line for line in printed.splitlines() if line.startswith(MARK)]
    if not lines:
        raise ValueError(f"{contestant} printed no figures for {work}: ...{printed[-300:]}")
    return Trained(contestant, work, number, **json.loads(lines[-1].removeprefix(MARK)))


def report(runs: Sequence[Trained], *, peers: Sequence[str]) -> str:
    """A table for each work: every contestant's figures, and its samples per core over the fastest peer's."""
    return "\n\n".join(_of(work, runs, peers) for work in dict.fromkeys(run.work for run in runs))


def _of(work: str, runs: Sequence[Trained], peers: Sequence[str]) -> str:
    here = [run for run in runs if run.work == work]
    fastest = _fastest([run for run in here if run.contestant in peers])
    rows = []
    for name in dict.fromkeys(run.contestant for run in here):
        mine = [run for run in here if run.contestant == name]
        over = [run.per_core / per_core for run in mine if (per_core := fastest[1].get(run.round))]
        figures = [Spread.of(map(figure, mine)) for figure in FIGURES.values()]
        rows.append([name, *figures, Spread.of(over) if over else "-"])
    head = f"{work}: median [least-most] of the rounds"
    return table([head, *FIGURES, f"over {fastest[0]}" if fastest[0] else "over"], rows)


def _fastest(runs: Sequence[Trained]) -> tuple[str | None, dict[int, float]]:
    """The peer with the highest median per core, and its samples per core by round."""
    if not runs:
        return None, {}
    by_name = {run.contestant: [one.per_core for one in runs if one.contestant == run.contestant] for run in runs}
    best = max(by_name, key=lambda name: Spread.of(by_name[name]).middle)
    return best, {run.round: run.per_core for run in runs if run.contestant == best}
