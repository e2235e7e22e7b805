"""The tables of `bench.serving`: every contestant in every cell, its starts, and ours over each peer."""

from collections.abc import Iterator, Mapping, Sequence

from bench.serving_table import Cell, Figure, Measured, Spread, Started, cells, names, ratios, spread, table

FIGURES: Mapping[str, Figure] = {
    "CPU ms/request": lambda run: run.cpu_ms,
    "requests/s": lambda run: run.per_second,
    "candidates/s": lambda run: run.per_second * run.candidates,
    "p50 ms": lambda run: run.p50_ms,
    "p99 ms": lambda run: run.p99_ms,
    "p99.9 ms": lambda run: run.p999_ms,
}
OURS = ("fast", "exact")
COMPARED = ("CPU ms/request", "requests/s", "p50 ms", "p99 ms")


def report(found: Sequence[Measured | Started]) -> str:
    """Everything, as text."""
    runs = [one for one in found if isinstance(one, Measured)]
    starts = [one for one in found if isinstance(one, Started)]
    parts = [*(_of_cell(runs, cell) for cell in cells(runs)), _of_starts(starts), _of_counts(starts)]
    parts += [_compared(runs, ours, name) for ours in OURS for name in COMPARED if ours in names(runs)]
    return "\n\n".join(part for part in parts if part)


def _of_cell(runs: Sequence[Measured], cell: Cell) -> str:
    rows = []
    for name in names(runs):
        mine = [r for r in runs if r.contestant == name and (r.candidates, r.connections) == cell]
        if mine:
            lay = " ".join(":".join(map(str, run.balance)) for run in mine)
            wrong = sum(run.refused + run.failed for run in mine)
            rows.append([name, *(spread(runs, name, cell, figure=figure) for figure in FIGURES.values()), wrong, lay])
    title = f"{cell[0]} candidates, {cell[1]} connections: median [least-most] of the rounds"
    return f"{title}\n{table(['', *FIGURES, 'not 200', 'connections'], rows)}"


def _of_starts(starts: Sequence[Started]) -> str:
    rows = []
    for name in dict.fromkeys(one.contestant for one in starts):
        mine = [one for one in starts if one.contestant == name]
        rows.append([name, Spread.of(one.start_s for one in mine), Spread.of(one.pss_mib for one in mine)])
    return table(["", "start s", "PSS MiB"], rows) if rows else ""


def _of_counts(starts: Sequence[Started]) -> str:
    ours = [one for one in starts if one.counted]
    if not ours:
        return ""
    head = ["counted by its own metrics", *ours[0].counted]
    return table(head, ([one.contestant, *(f"{count:,.0f}" for count in one.counted.values())] for one in ours))


def _compared(runs: Sequence[Measured], ours: str, name: str) -> str:
    measured = cells(runs)
    head = [f"{name}: {ours} over", *(f"N={candidates} c={connections}" for candidates, connections in measured)]
    return table(head, _ratio_rows(runs, ours, figure=FIGURES[name], measured=measured))


def _ratio_rows(
    runs: Sequence[Measured], ours: str, *, figure: Figure, measured: Sequence[Cell]
) -> Iterator[Sequence[object]]:
    for peer in (name for name in names(runs) if name not in OURS):
        by_cell = ratios(runs, ours, peer, figure=figure)
        yield [peer, *(by_cell.get(cell, "-") for cell in measured)]
