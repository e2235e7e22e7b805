"""The zoo on Frappe_x1: AUC and log loss of every family over seeds, beside what was published.

    python -m bench.quality PATH --cache FOLDER [--families lr fm] [--seeds 5] [--history] [--test]

PATH holds `frappe_x1/`, whose valid and test are exact and whose train is rebuilt. Valid stops training early and is
what settings were chosen on, as BARS does. Test is opened only with --test. Runs are kept in FOLDER, so an interrupted
table goes on. `unseen pairs` is the AUC of the rows whose user and app no training positive holds together.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cache, partial
from pathlib import Path

import torch

from bench.frappe_data import WORD
from bench.quality_configs import PLAIN, SETTINGS, WITH_HISTORY, Setting
from bench.quality_runs import Judged, Run, Runs, Task

Row = Sequence[object]
HEAD = ("family", "published", "at least", "seeds", "AUC", "log loss", "unseen pairs", "epochs", "processor s")
EACH = ("family", "seed", "AUC", "log loss", "unseen pairs", "valid AUC", "epochs", "processor s")


def markdown(head: Sequence[str], rows: Sequence[Row]) -> str:
    """A table as the documentation holds it."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


def figure(values: Sequence[float], *, places: int) -> str:
    """The mean and, of more than one value, the standard deviation: `.98412 ± .00031`."""
    mean = _short(statistics.mean(values), places)
    return f"{mean} ± {_short(statistics.stdev(values), places)}" if len(values) > 1 else mean


def report(found: Sequence[tuple[Setting, Sequence[Run]]], *, test: bool) -> str:
    """The means by family, then every run."""
    part = "test, read once" if test else "valid (test was not opened)"
    each = [_each(run, _of(run, test=test)) for _, runs in found for run in runs]
    return "\n".join(
        [
            f"{WORD}. Choices were made on valid. AUC, log loss and unseen pairs: {part}.",
            "",
            markdown(HEAD, [_mean(setting, runs, test=test) for setting, runs in found]),
            "",
            "Every run:",
            "",
            markdown(EACH, each),
        ]
    )


def _of(run: Run, *, test: bool) -> Judged:
    return run.test if test and run.test else run.valid


def _mean(setting: Setting, runs: Sequence[Run], *, test: bool) -> Row:
    judged = [_of(run, test=test) for run in runs]
    missed = setting.least is not None and statistics.mean(one.auc for one in judged) < setting.least
    return (
        setting.name,
        setting.published,
        "-" if setting.least is None else _short(setting.least, 4),
        len(runs),
        figure([one.auc for one in judged], places=5) + (" (missed)" if test and missed else ""),
        figure([one.log_loss for one in judged], places=4),
        figure([one.unseen for one in judged], places=4),
        round(statistics.mean(run.epochs for run in runs)),
        round(statistics.mean(run.cpu_s for run in runs)),
    )


def _each(run: Run, judged: Judged) -> Row:
    figures = (_short(judged.auc, 5), _short(judged.log_loss, 4), _short(judged.unseen, 4), _short(run.valid.auc, 5))
    return (run.setting, run.seed, *figures, run.epochs, round(run.cpu_s))


def _short(value: float, places: int) -> str:
    return f"{value:.{places}f}".removeprefix("0")


def chosen(families: Sequence[str] | None, *, history: bool) -> list[Setting]:
    """The settings asked for, by name, else all of one kind."""
    return [SETTINGS[name] for name in families] if families else list(WITH_HISTORY if history else PLAIN)


def main() -> None:
    """Train what is not kept yet, print both tables, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--cache", type=Path, required=True, help="where runs are kept; outside the repository")
    parser.add_argument("--families", nargs="+", choices=SETTINGS, help="rows of the table; all by default")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--history", action="store_true", help="the rows with history features")
    parser.add_argument("--test", action="store_true", help="read test; once everything is chosen")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    runs = Runs(arguments.cache, cache(partial(Task, arguments.data)), tell=partial(print, file=sys.stderr))
    run: Callable[[Setting, int], Run] = runs.tested if arguments.test else runs.run
    settings = chosen(arguments.families, history=arguments.history)
    found = [(setting, [run(setting, seed) for seed in range(1, arguments.seeds + 1)]) for setting in settings]
    print(report(found, test=arguments.test))
    if arguments.json:
        written = [asdict(one) for _, made in found for one in made]
        arguments.json.write_text(json.dumps({"data": WORD, "runs": written}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
