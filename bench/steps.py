"""Where the time of one request goes: each step of the path from its body to its answer, one after the other.

    python -m bench.steps [--precision fast exact] [--candidates 200] [--apps 100000] [--cache FOLDER] [--json FILE]

The reference work in one process, by its thread's clock: the median of the requests of several rounds. The first pass
holds the gathering of app rows and the crosses, which are timed by themselves too; what HTTP, the event loop and the
log's own thread take is in `bench.candidates` alone.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TypeVar

import torch

from bench.candidates import DIFFERENT, ROUNDS
from bench.reference import Reference, Work, prepare
from bench.serving_table import table
from model.cross_plan import met
from model.fast_scorer import Ask
from service.api.rank_wire import RankReader, written
from service.container import Container, build
from service.ordering import best
from service.ranker import Asked, Begun, Ranking, RankQuery
from service.settings import Settings

Made = TypeVar("Made")
Steps = dict[str, float]
"""Microseconds by the step's name."""

WITHIN = ("  ids to rows", "  the user's side", "  rows gathered", "  crosses", "  first pass, all of it", "  top-k")
"""Steps that are within the others, and so no part of the sum."""


class Stopwatch:
    """Keeps every time that a step took."""

    def __init__(self) -> None:
        self._took: dict[str, list[float]] = {}

    def __call__(self, step: str, work: Callable[[], Made]) -> Made:
        """What the work makes, timed."""
        began = time.thread_time()
        made = work()
        self._took.setdefault(step, []).append((time.thread_time() - began) * 1e6)
        return made

    @property
    def medians(self) -> Steps:
        """In the order in which they were first taken."""
        return {step: median(each) for step, each in self._took.items()}


def walked(container: Container, body: bytes, read: RankReader, watch: Stopwatch) -> None:
    """One request through every step. Raises RuntimeError where its body or its answer is not a right one."""
    ranker, live = container.ranker, container.engine.live()
    asked = watch("body read", lambda: read(body))
    if asked is None:
        raise RuntimeError("a body of the reference work is not read")
    query = RankQuery(asked.user.id, context=asked.context, candidates=asked.candidates, k=asked.k)
    fetched = watch("user looked up", lambda: ranker.fetch([query.user_id]))
    arrived = Asked(query, "bench", time.perf_counter())
    (begun,) = watch("admitted, rows and user's side", lambda: ranker.begin([arrived], fetched))
    if not isinstance(begun, Begun):
        raise RuntimeError(f"a request of the reference work is refused: {begun}")
    (answer,) = watch("scored, ordered, counted, recorded", lambda: ranker.finish([begun]))
    if not isinstance(answer, Ranking):
        raise RuntimeError(f"a request of the reference work is not answered: {answer}")
    watch("answer written", lambda: written(answer, request_id="bench"))
    within(begun, partial(live.shelf.select, query.candidates, country=None), watch)


def within(begun: Begun, select: Callable[[], object], watch: Stopwatch) -> None:
    """What the two large steps are made of, once more and each by itself."""
    fast, selection, encoded = begun.sought.live.fast, begun.sought.selection, begun.sought.encoded
    ask = Ask(encoded, selection.table, torch.from_numpy(selection.rows), begun.sought.k)
    rows, user, gather, crosses, first, top = WITHIN
    watch(rows, select)
    watch(user, lambda: fast.encode(replace(begun.query)))  # as the same user's next request
    apps = watch(gather, lambda: selection.table.gather(ask.rows, exact=None))
    watch(crosses, lambda: met([encoded.keys], apps.keys, [len(ask.rows)]))
    scores = watch(first, lambda: fast.scores(ask))
    watch(top, lambda: best(scores, selection.rows, ids=selection.table.ids, k=ask.k))


@torch.inference_mode()
def steps(reference: Reference, *, precision: str, candidates: int) -> Steps:
    """The median of each; users are new in the first round, which is left out."""
    container = build(Settings.from_env({"APPSHELF_HOME": str(reference.root), "APPSHELF_PRECISION": precision}))
    container.engine.swap(container.prepare(reference.version))
    bodies, read, watch = reference.bodies(candidates)[: 5 * DIFFERENT], RankReader(), Stopwatch()
    for number in range(1 + ROUNDS):
        for body in bodies:
            walked(container, body, read, watch if number else Stopwatch())
    return watch.medians


def report(found: Mapping[str, Steps]) -> str:
    """A row a step, a column a precision, and the sum of those that follow each other."""
    first = next(iter(found.values()))
    rows = [[step, *(f"{each[step]:,.0f}" for each in found.values())] for step in first]
    sums = [sum(micros for step, micros in each.items() if step not in WITHIN) for each in found.values()]
    whole = ["all of it", *(f"{micros:,.0f}" for micros in sums)]
    return table(["CPU us a request", *found], [*rows, whole])


def main() -> None:
    """Measure, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", choices=("fast", "exact"), default=("fast", "exact"))
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--apps", type=int, default=Work.apps)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    reference = prepare(arguments.cache / f"reference-{arguments.apps}", Work(apps=arguments.apps))
    found = {one: steps(reference, precision=one, candidates=arguments.candidates) for one in arguments.precision}
    print(report(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
