"""What one more candidate costs: the engine alone, the whole request, and the matrix products that nobody gets below.

    python -m bench.candidates [--precision fast exact] [--counts 10 50 200 1000 5000] [--cache FOLDER] [--json FILE]

The floor is the tower's own products after the split first layer, in the number format of the first pass, by the
fastest of torch's ways on this machine. The engine is timed in this process, by its own thread's clock; the request is
`appshelf serve` under wrk with one connection, by the processor time of all its processes.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
import torch.nn.functional as F

from bench import wrk
from bench.contestants import CONTESTANTS, running
from bench.reference import Reference, Work, prepare
from bench.serving import await_quiet, measure
from bench.serving_table import table
from model.fast_scorer import Ask
from model.query import Query
from model.quick import best_dtype, packed_layer
from service.container import build
from service.settings import Settings

COUNTS = (10, 50, 200, 1_000, 2_500, 5_000)
LAYERS = ((1024, 512), (512, 256), (256, 1))
DIFFERENT = 20
ROUNDS = 5
BODIES = 200
WARM_S = 1.0

Costs = dict[int, float]
"""Microseconds of one request by its number of candidates."""


def slope(costs: Mapping[int, float]) -> float:
    """Microseconds per candidate: the line through the costs that is best in relative terms."""
    counts, micros = np.array([*costs]), np.array([*costs.values()])
    return float(np.polyfit(counts, micros, 1, w=1 / micros)[0])


def timed(work: Callable[[int], object], calls: int) -> float:
    """Microseconds of this thread for one call; the call's number is handed in."""
    work(0)
    began = time.thread_time()
    for number in range(calls):
        work(number)
    return (time.thread_time() - began) / calls * 1e6


def in_rounds(ways: Mapping[int, Callable[[int], object]]) -> Costs:
    """The median cost of each over ROUNDS rounds that take them in turn."""
    rounds = [{count: timed(work, DIFFERENT) for count, work in ways.items()} for _ in range(ROUNDS)]
    return {count: median(one[count] for one in rounds) for count in ways}


def floor(counts: Sequence[int], dtype: torch.dtype) -> Costs:
    """The tower's products and nothing else, each by the faster of `F.linear` and prepacked weights."""
    generator = torch.Generator().manual_seed(0)
    total = dict.fromkeys(counts, 0.0)
    for wide, narrow in LAYERS:
        weight, bias = torch.randn(narrow, wide, generator=generator), torch.zeros(narrow)
        packed, plain = packed_layer(weight, bias, dtype), partial(_linear, weight.to(dtype), bias.to(dtype))
        inputs = {count: torch.randn(count, wide, generator=generator).to(dtype) for count in counts}
        both = [in_rounds({n: _calling(way, x) for n, x in inputs.items()}) for way in (packed, plain)]
        total = {count: total[count] + min(one[count] for one in both) for count in counts}
    return total


def _linear(weight: torch.Tensor, bias: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    return F.linear(x, weight, bias)


def _calling(way: Callable[[torch.Tensor], torch.Tensor], x: torch.Tensor) -> Callable[[int], object]:
    return lambda _: way(x)


def engine(reference: Reference, counts: Sequence[int], *, precision: str) -> Costs:
    """From an encoded request and rows to the ten best, each call for another user and other candidates."""
    environ = {"APPSHELF_HOME": str(reference.root), "APPSHELF_PRECISION": precision}
    container = build(Settings.from_env(environ))
    live = container.prepare(reference.version)
    rng, bodies = np.random.default_rng(0), [json.loads(body) for body in reference.bodies(50)[:DIFFERENT]]
    users = [container.features.get_user(body["user"]["id"]) for body in bodies]
    queries = [Query(u.id, u.features, b["context"], u.history) for u, b in zip(users, bodies, strict=True) if u]
    encoded = [live.fast.encode(query) for query in queries]
    everything = live.shelf.select(None, country=None)

    def rank(count: int) -> Callable[[int], object]:
        chosen = [torch.from_numpy(rng.choice(everything.rows, count, replace=False)) for _ in encoded]
        asks = [Ask(one, everything.table, rows, 10) for one, rows in zip(encoded, chosen, strict=True)]
        return lambda number: live.fast.best([asks[number]])

    return in_rounds({count: rank(count) for count in counts})


def request(reference: Reference, counts: Sequence[int], *, precision: str, cache: Path) -> Costs:
    """Processor time of the whole server for one request over HTTP."""
    contestant, costs = next(one for one in CONTESTANTS if one.name == precision), {}
    with running(contestant, reference, cache=cache) as server:
        await_quiet(server)
        for count in counts:
            bodies = reference.bodies_file(count, BODIES)
            measure(server, wrk.Load(bodies, 1, WARM_S))
            runs = [measure(server, wrk.Load(bodies, 1, 2.0))[1] for _ in range(ROUNDS)]
            costs[count] = median(runs) * 1e3
    return costs


def main() -> None:
    """Measure, print the table and the slopes over the floor's, write JSON where asked."""
    arguments = _arguments()
    torch.set_num_threads(1)
    reference = prepare(arguments.cache / f"reference-{arguments.apps}", Work(apps=arguments.apps))
    with torch.inference_mode():
        found = {"floor": floor(arguments.counts, best_dtype()), "floor fp32": floor(arguments.counts, torch.float32)}
    for precision in arguments.precision:
        found[f"engine {precision}"] = engine(reference, arguments.counts, precision=precision)
        found[f"request {precision}"] = request(reference, arguments.counts, precision=precision, cache=arguments.cache)
    slopes = {name: slope(costs) for name, costs in found.items()}
    print(f"floor in {best_dtype()}\n{_table(found, slopes)}")
    if arguments.json:
        arguments.json.write_text(json.dumps({"costs_us": found, "slopes_us": slopes}, indent=1), encoding="utf-8")


def _table(found: Mapping[str, Costs], slopes: Mapping[str, float]) -> str:
    head = ["CPU us a request, N =", *(str(count) for count in found["floor"]), "us/candidate", "over the floor"]
    rows = []
    for name, costs in found.items():
        each, over = slopes[name], slopes[name] / slopes["floor"]
        rows.append([name, *(f"{micros:,.0f}" for micros in costs.values()), f"{each:.2f}", f"{over:.2f}"])
    return table(head, rows)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precision", nargs="+", choices=("fast", "exact"), default=("fast", "exact"))
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--apps", type=int, default=Work.apps)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
