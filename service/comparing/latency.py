"""How long one request takes with each contestant's net, in turns, in one process: `service.comparing.latency`.

Scored as a server scores: the fast scorer in the precision that would serve, the best ten put in order. In turns,
since what else a machine does comes and goes, and would otherwise fall on one of them.
"""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from math import inf
from pathlib import Path

import numpy as np
import polars as pl
import torch

from model.agreement import BEST, Asked, logit_error
from model.bundle import BundleError, load
from model.data.dataset import Dataset, read
from model.data.examples import rows_of
from model.data.queries import apps, queries
from model.fast_scorer import Ask, FastScorer, Precision
from model.precision_checks import ERROR_QUERIES, ORDER, precision_checks
from model.report import GateReport, Limits, PrecisionSetting
from model.scorer import Scorer
from service.ordering import best
from service.precision import resolve

CANDIDATES = 200
MOST_APPS = 20_000
"""Of a catalogue; a table of more is no slower to read from, and all contestants' lie in memory at once."""
REQUESTS, SHELF, WARM_CALLS = 64, 500, 5


@dataclass(frozen=True)
class Served:
    """What one request of so many candidates took. precision: what the net would serve in; apps: in its table."""

    precision: str
    candidates: int
    apps: int
    calls: int
    p50_ms: float
    p99_ms: float


@dataclass(frozen=True)
class Terms:
    """How it is measured. precision: as it is set; calls: of each contestant."""

    precision: PrecisionSetting
    threads: int
    calls: int


@dataclass(frozen=True)
class Entrant:
    """A contestant ready to serve. call: answers the request at a place, from the first again after the last."""

    precision: Precision
    candidates: int
    apps: int
    call: Callable[[int], object]


def entrant(folder: Path, dataset: Dataset, setting: PrecisionSetting) -> Entrant:
    """A bundle over the dataset's catalogue, asked by rows of the gate split. Raises BundleError."""
    scorer = Scorer.of(load(folder))
    shown = dataset.apps.filter("available")
    shown = shown.sample(min(len(shown), MOST_APPS), seed=0)
    table = scorer.table(tuple(apps(shown, dataset.schema)))
    rows, count = np.random.default_rng(0), min(CANDIDATES, len(table))
    asking = rows_of(dataset, "gate")
    asked = [
        Asked(query, table, rows.choice(len(table), count, replace=False))
        for query in queries(dataset, asking.sample(min(REQUESTS, len(asking)), seed=0))
    ]
    precision = _precision(scorer, asked, setting)
    error = logit_error(scorer, asked[:ERROR_QUERIES]) if precision is Precision.EXACT else inf
    fast = FastScorer(scorer, precision=precision, error=error)

    def call(turn: int) -> object:
        one = asked[turn % len(asked)]
        (found,) = fast.best([Ask(fast.encode(one.query), table, torch.from_numpy(one.rows), BEST)])
        return best(found.scores, one.rows[found.places], ids=table.ids, k=BEST)

    return Entrant(precision, count, len(table), call)


def _precision(scorer: Scorer, asked: Sequence[Asked], setting: PrecisionSetting) -> Precision:
    """What the gate would have it serve in."""
    shelf = np.arange(min(SHELF, len(asked[0].table)))
    checks = precision_checks(
        scorer, [Asked(one.query, one.table, shelf) for one in asked], limits=Limits(precision=setting)
    )
    order = tuple(check for check in checks if check.name == ORDER)
    return resolve(setting, GateReport(scorer.version, "", "", order))


def in_turns(entrants: Mapping[str, Entrant], calls: int, *, clock: Callable[[], float]) -> dict[str, Served]:
    """So many calls of each, one of each at a time. clock: seconds, monotonic."""
    for one in entrants.values():
        for turn in range(WARM_CALLS):
            one.call(turn)
    took: dict[str, list[float]] = {name: [] for name in entrants}
    for turn in range(calls):
        for name, one in entrants.items():
            started = clock()
            one.call(turn)
            took[name].append(1000 * (clock() - started))
    return {
        name: Served(
            str(one.precision),
            one.candidates,
            one.apps,
            calls,
            float(np.median(took[name])),
            float(np.quantile(took[name], 0.99)),
        )
        for name, one in entrants.items()
    }


@dataclass(frozen=True)
class Measured:
    """What was measured, by contestant, and why others were not."""

    served: dict[str, Served]
    left_out: dict[str, str]


def measured(bundles: Mapping[str, Path], dataset: Dataset, terms: Terms) -> Measured:
    """Each contestant's times; one whose bundle is damaged is left out, and all where there is nothing to rank."""
    entrants: dict[str, Entrant] = {}
    left_out: dict[str, str] = {}
    if not dataset.apps.select(pl.col("available").any()).item():
        return Measured({}, dict.fromkeys(bundles, "the data has no app that is available"))
    for name, folder in bundles.items():
        try:
            entrants[name] = entrant(folder, dataset, terms.precision)
        except BundleError as error:
            left_out[name] = str(error)
    return Measured(in_turns(entrants, terms.calls, clock=time.perf_counter), left_out)


def main(arguments: Sequence[str]) -> int:
    """Measure, and answer on standard output."""
    parser = ArgumentParser(prog="python -m service.comparing.latency", description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder of the imported dataset")
    parser.add_argument("--bundles", type=json.loads, required=True, help="contestant -> folder of its bundle")
    parser.add_argument("--terms", type=json.loads, required=True, help="see `Terms`")
    told = parser.parse_args(arguments)
    terms = Terms(**told.terms)
    torch.set_num_threads(terms.threads)
    bundles = {name: Path(folder) for name, folder in told.bundles.items()}
    sys.stdout.write(json.dumps(asdict(measured(bundles, read(told.data), terms))) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
