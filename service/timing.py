"""One process that times the scoring of this home's work: `python -m service.timing`, started by `service.calibration`.

It says what it has, waits for a line, and answers with what it measured, so that several can measure side by side.
"""

import json
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from math import inf
from os import environ

import numpy as np
import torch

from model.agreement import Asked, logit_error
from model.app_table import AppTable
from model.bundle import load
from model.data import paper_size
from model.fast_scorer import Ask, FastScorer, Precision
from model.manifest import BundleError
from model.query import Query
from service.container import Container, build
from service.errors import ServiceError
from service.precision import resolve
from service.settings import Settings

CANDIDATES, BEST = 200, 10
REQUESTS, PAPER_APPS = 64, 20_000
LEAST_CALLS = 5


@dataclass(frozen=True)
class Work:
    """What is scored: requests of CANDIDATES apps each, all different."""

    name: str
    fast: FastScorer
    table: AppTable
    queries: Sequence[Query]
    rows: Sequence[torch.Tensor]

    def asks(self, first: int, count: int) -> list[Ask]:
        """Requests `first` to `first + count`, from the start again after the last, encoded here and now."""
        places = [place % len(self.rows) for place in range(first, first + count)]
        encode, queries = self.fast.encode, self.queries
        return [Ask(encode(queries[one % len(queries)]), self.table, self.rows[one], BEST) for one in places]


@dataclass(frozen=True)
class Took:
    """Calls of one kind: how many, the seconds of all, the median's milliseconds, and those of the slowest of 100."""

    calls: int
    all_s: float
    ms: float
    p99_ms: float


def live_work(container: Container, version: str) -> Work:
    """The live version's own network and catalogue, asked by its golden requests."""
    live = container.prepare(version)
    selection = live.shelf.select(None, country=None)
    golden = load(container.registry.folder(version)).golden
    name = f"{version}, {len(selection.rows)} apps"
    return Work(name, live.fast, selection.table, [one.query for one in golden], _drawn(selection.rows))


def paper_work(precision: Precision) -> Work:
    """A network and a catalogue of the paper's size."""
    scorer = paper_size.scorer(seed=0)
    table = scorer.table(paper_size.apps(PAPER_APPS, seed=1))
    queries, rows = paper_size.queries(REQUESTS, seed=2), _drawn(np.arange(PAPER_APPS))
    measured = [Asked(query, table, rows[0].numpy()) for query in queries[:8]]
    error = logit_error(scorer, measured) if precision is Precision.EXACT else inf
    fast = FastScorer(scorer, precision=precision, error=error)
    return Work(f"a network of the paper's size, {PAPER_APPS} apps", fast, table, queries, rows)


def found_work(variables: Mapping[str, str]) -> Work:
    """The work of the home that these variables name."""
    settings = Settings.from_env(variables)
    container = build(settings.patient())
    if version := container.registry.live():
        return live_work(container, version)
    return paper_work(resolve(settings.precision, None))


def timed(call: Callable[[int], object], seconds: float) -> Took:
    """Call with 0, 1, 2, ... until so many seconds are over; LEAST_CALLS before them and at least as many in them."""
    for turn in range(LEAST_CALLS):
        call(turn)
    took: list[float] = []
    started = time.perf_counter()
    while (now := time.perf_counter()) < started + seconds or len(took) < LEAST_CALLS:
        call(len(took))
        took.append(time.perf_counter() - now)
    ms = 1000 * np.array(took)
    return Took(len(took), sum(took), float(np.median(ms)), float(np.quantile(ms, 0.99)))


def together(work: Work, requests: int) -> Callable[[int], object]:
    """So many requests scored in one call."""
    return lambda turn: work.fast.best(work.asks(turn * requests, requests))


def cut(work: Work, batch: int, pool: ThreadPoolExecutor) -> Callable[[int], object]:
    """One request's candidates in batches of so many, each in whichever thread of the pool is free."""

    def score(turn: int) -> object:
        (ask,) = work.asks(turn, 1)
        batches = [Ask(ask.encoded, ask.table, rows, ask.k) for rows in torch.split(ask.rows, batch)]
        return list(pool.map(work.fast.best, [[one] for one in batches]))

    return score


def measured(work: Work, wanted: Sequence[Sequence[int]], seconds: float) -> list[Took]:
    """What each of the wanted took: `[requests]` together, or candidates `[batch, threads]`."""
    found = []
    for size, *threads in wanted:
        if threads:
            with ThreadPoolExecutor(threads[0]) as pool:
                found.append(timed(cut(work, size, pool), seconds))
        else:
            found.append(timed(together(work, size), seconds))
    return found


def _drawn(rows: "np.ndarray[tuple[int, ...], np.dtype[np.int64]]") -> list[torch.Tensor]:
    """CANDIDATES of `rows` for each of REQUESTS requests; some of them twice where there are fewer."""
    draw = partial(np.random.default_rng(0).choice, rows, CANDIDATES, replace=len(rows) < CANDIDATES)
    return [torch.from_numpy(draw()) for _ in range(REQUESTS)] if len(rows) else []


def main(arguments: Sequence[str]) -> int:
    """Measure and answer on standard output."""
    parser = ArgumentParser(prog="python -m service.timing", description=__doc__)
    parser.add_argument("--threads", type=int, required=True, help="threads that torch uses")
    parser.add_argument("--seconds", type=float, required=True, help="seconds for each measurement")
    parser.add_argument("--wanted", type=json.loads, required=True, help="see `measured`")
    options = parser.parse_args(arguments)
    torch.set_num_threads(options.threads)
    try:
        work = found_work(environ)
    except (ServiceError, BundleError) as error:
        raise SystemExit(str(error)) from error
    answer(work.rows and {"work": work.name, "precision": str(work.fast.precision)})
    if sys.stdin.readline() and work.rows:
        answer([asdict(one) for one in measured(work, options.wanted, options.seconds)])
    return 0


def answer(value: object) -> None:
    """One line of JSON on standard output."""
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
