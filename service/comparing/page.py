"""A comparison as one HTML file that needs nothing else: tables with every figure, and plots of them."""

from collections.abc import Iterator, Sequence
from html import escape

from service.comparing.plots import Bar, Panel, Point, Words, curve_panels, interval_plot, scatter
from service.comparing.report import (
    COLUMNS,
    QUALITY,
    Entry,
    Report,
    halves_line,
    narrow,
    skipped_line,
    slice_table,
    table,
)

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1c2430; --quiet: #56606e; --rule: #d5dae1;
  --mark: #1d5fc4; --behind: #8a93a0; --failed: #a3241b; }
@media (prefers-color-scheme: dark) { :root { --paper: #14181f; --ink: #e6eaf0; --quiet: #a4adba; --rule: #353d49;
  --mark: #7db0ff; --behind: #7c8695; --failed: #ff9d94; } }
body { margin: 0 auto; padding: 1.5rem; max-width: 78rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, sans-serif; }
h1 { font-size: 1.6rem; margin: 0 0 .5rem; } h2 { font-size: 1.2rem; margin: 2.5rem 0 .5rem; }
p { max-width: 46rem; margin: .5rem 0; } .quiet { color: var(--quiet); } .failed { color: var(--failed); }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .875rem; }
caption { text-align: left; color: var(--quiet); padding-bottom: .4rem; }
th, td { text-align: right; padding: .3rem .7rem; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th:first-child { text-align: left; padding-left: 0; } th[scope=row] { font-weight: 600; }
svg { display: block; width: 100%; min-width: 40rem; max-width: 60rem; height: auto; font-size: 12px; }
svg text { fill: var(--ink); } svg .name { font-weight: 600; } svg .grid { stroke: var(--rule); }
svg .axis { stroke: var(--quiet); } svg .zero { stroke: var(--ink); stroke-width: 1.5; }
svg .range { stroke: var(--mark); stroke-width: 2.5; } svg .mark { stroke: var(--quiet); stroke-width: 1.5; }
svg .dot { fill: var(--mark); stroke: var(--mark); stroke-width: 2; } svg .hollow { fill: var(--paper); }
svg .curve { fill: none; stroke: var(--mark); stroke-width: 2; }
svg .behind { fill: none; stroke: var(--behind); stroke-width: 1.5; stroke-dasharray: 4 3; }
"""


def page(report: Report) -> str:
    """The whole page. Every figure that is drawn stands in a table too."""
    title = f"Comparison of {len(report.entries)} contestants"
    parts = [f"<h1>{title}</h1>", *_opening(report), *_results(report), *_plots(report)]
    parts += [*_configurations(report)]
    head = f'<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1"><title>{title}'
    return f'<!doctype html>\n<html lang="en"><head>{head}</title><style>{STYLE}</style></head><body><main>\n' + (
        "\n".join(parts) + "\n</main></body></html>\n"
    )


def _opening(report: Report) -> Iterator[str]:
    judged = report.judged
    counts = ", ".join(f"{name} {count:,}" for name, count in judged.counts.items())
    if not report.finished:
        yield '<p class="failed"><strong>Not finished.</strong> Run the same command again: what is here is kept.</p>'
    yield _p(f"{judged.source}: rows of {counts}. Trained on train, stopped by stop, judged on gate.")
    if judged.resamples:
        yield _p(
            f"Intervals hold 95 % of {judged.resamples} resamples of {judged.drawn}; of several seeds they hold what "
            f"another training would have changed too. Gains are over {report.baseline}, on the same resamples, and "
            "above zero where a contestant is better, whatever the measure."
        )
    yield _p(f"{report.created_at}, appshelf {report.software}, {report.machine}.", kind="quiet")
    for note in report.notes:
        yield _p(note, kind="failed")


def _results(report: Report) -> Iterator[str]:
    rows = [narrow(row) for row in table(report)]
    seeds = f"± is the standard deviation over {report.seeds} seeds" if report.seeds > 1 else "one seed"
    said = f"Best first; {seeds}; miscalibration is |ln(predicted / observed)|, 0 when right."
    yield "<h2>Quality</h2>"
    yield _table(COLUMNS[:QUALITY], [row[:QUALITY] for row in rows], caption=said)
    for entry in report.failed:
        yield _p(f"{entry.name} failed: {entry.why}", kind="failed")
    if report.halves:
        yield _p(f"{halves_line(report.halves)}.")
    yield from _slices(report)
    yield "<h2>Cost</h2>"
    yield _table((COLUMNS[0], *COLUMNS[QUALITY:]), [(row[0], *row[QUALITY:]) for row in rows], caption=_timed(report))


def _timed(report: Report) -> str:
    served = next((entry.served for entry in report.entries if entry.served), None)
    said = "MB of weights on disk, zeros left out; seconds of training are means over seeds"
    if not served:
        return f"{said}."
    return (
        f"{said}; p50 and p99 of {served.calls} requests of {served.candidates} candidates from a table of "
        f"{served.apps} apps, one at a time, the contestants in turns."
    )


def _slices(report: Report) -> Iterator[str]:
    columns, rows = slice_table(report)
    if len(columns) > 1 and rows:
        yield "<h2>Quality by slice</h2>"
        yield _table(columns, rows, caption="AUC on parts of the gate split (rows), and the gain over the baseline.")
    if skipped := skipped_line(report):
        yield _p(skipped, kind="quiet")


def _plots(report: Report) -> Iterator[str]:
    shown = [entry for entry in report.ranked() if "auc" in entry.standing]
    if bars := [bar for entry in shown if (bar := _auc_bar(entry))]:
        told = "A row a contestant: its AUC as a dot, the 95 % interval as a line, a tick for each seed."
        yield _figure("AUC", interval_plot(bars, Words("AUC with 95 % intervals", told, "AUC on the gate split")))
    for measure, name in (("auc", "AUC"), ("log_loss", "log loss")):
        if bars := [bar for entry in shown if (bar := _gain_bar(entry, measure))]:
            told = "A row a contestant: its paired gain; hollow where the interval holds zero."
            words = Words(f"Gain in {name}", told, f"gain in {name} over {report.baseline} (right is better)")
            yield _figure(f"{name} gained over {report.baseline}", interval_plot(bars, words, zero=True))
    if panels := _panels(shown, report.baseline):
        told = "A plot a contestant, the baseline's curves dashed behind it."
        words = Words("Learning curves", told, "epoch", "AUC on the stop split")
        yield _figure("Learning curves", curve_panels(panels, words))
    if points := [point for entry in shown if (point := _point(entry))]:
        told = "Every contestant's AUC with its interval, against the median time of a request."
        words = Words("AUC against time", told, "median milliseconds of a request", "AUC")
        yield _figure("AUC against the time of a request", scatter(points, words))


def _auc_bar(entry: Entry) -> Bar | None:
    auc = entry.standing["auc"]
    return Bar(entry.name, auc.value, auc.around.low, auc.around.high, entry.by_seed) if auc.around else None


def _gain_bar(entry: Entry, measure: str) -> Bar | None:
    found = entry.standing.get(measure)
    if found is None or found.gain is None:
        return None
    gain = found.gain
    return Bar(entry.name, gain.mean, gain.low, gain.high, clear=gain.low > 0 or gain.high < 0)


def _panels(shown: Sequence[Entry], baseline: str) -> list[Panel]:
    curves = {
        entry.name: tuple(tuple((one["epoch"], one["auc"]) for one in curve.points) for curve in entry.curves)
        for entry in shown
    }
    behind = curves.get(baseline, ())
    return [Panel(name, mine, behind if name != baseline else ()) for name, mine in curves.items()]


def _point(entry: Entry) -> Point | None:
    auc = entry.standing["auc"]
    if not entry.served or not auc.around:
        return None
    return Point(entry.name, entry.served.p50_ms, auc.value, auc.around.low, auc.around.high)


def _configurations(report: Report) -> Iterator[str]:
    yield "<h2>What was trained</h2>"
    columns = ("contestant", "architecture", "recipe", "batch", "epochs run", "peak MiB", "precision", "options")
    rows = [
        (
            entry.name,
            entry.architecture,
            entry.recipe,
            str(entry.config["batch_size"]),
            f"{entry.cost.epochs:.1f}" if entry.cost else "",
            f"{entry.cost.peak_mib:.0f}" if entry.cost else "",
            entry.served.precision if entry.served else "",
            _options(entry),
        )
        for entry in report.entries
    ]
    yield _table(columns, rows, caption="Every contestant's configuration; epochs and memory are means over seeds.")


def _options(entry: Entry) -> str:
    given = {**entry.config["params"], **entry.config["recipe_options"]}
    return ", ".join(f"{name} {value}" for name, value in given.items()) or "defaults"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> str:
    head = "".join(f'<th scope="col">{escape(column)}</th>' for column in columns)
    body = "\n".join(_row(row) for row in rows)
    inner = f"<caption>{escape(caption)}</caption><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody>"
    return f'<div class="wide" role="region" aria-label="{escape(caption)}" tabindex="0"><table>{inner}</table></div>'


def _row(row: Sequence[str]) -> str:
    name, *cells = row
    return f'<tr><th scope="row">{escape(name)}</th>{"".join(f"<td>{escape(cell)}</td>" for cell in cells)}</tr>'


def _figure(heading: str, drawing: str) -> str:
    return f'<h2>{escape(heading)}</h2><div class="wide">{drawing}</div>'


def _p(text: str, *, kind: str = "") -> str:
    named = f' class="{kind}"' if kind else ""
    return f"<p{named}>{escape(text)}</p>"
