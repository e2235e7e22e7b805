"""What a request without candidates costs, and what those notice of it who ask for 200 meanwhile.

    python -m bench.catalogue [--apps 4000 1000000] [--seconds 10] [--load 0.3] [--cache FOLDER] [--json FILE]

For each catalogue one worker: whole catalogues are asked for one after the other, then 200 candidates at a share of the
capacity, then both at once. Latency of the 200 counts from when each was due.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Event, Thread

import numpy as np

from bench.contestants import ask
from bench.openloop import Answers, Pace
from bench.ours import CANDIDATES, OK, REFUSED, Setup, Target, quantiles_ms, served
from bench.reference import Reference, Work, prepare
from bench.serving_table import table

CAPACITY_S = 5.0
HEAD = ("apps", "whole ms", "beside 200s", "200 alone p50", "p99", "beside whole p50", "p99", "refused", "failed")


@dataclass(frozen=True)
class Noticed:
    """One catalogue. whole_ms: a whole catalogue's median, and beside_ms with the others; the 200s' p50 and p99, ms.

    refused, failed: of the 200s beside whole catalogues, and of those too.
    """

    apps: int
    whole_ms: float
    beside_ms: float
    alone: tuple[float, float]
    held: tuple[float, float]
    refused: int
    failed: int


def whole(body: bytes) -> bytes:
    """The same request without its candidates."""
    return json.dumps({name: value for name, value in json.loads(body).items() if name != "candidates"}).encode()


@contextmanager
def asking(port: int, bodies: Sequence[bytes]) -> Iterator[list[tuple[int, float]]]:
    """One client that asks for one body after the other while this is entered: status and seconds of each."""
    told, stop = list[tuple[int, float]](), Event()

    def go_on() -> None:
        while not stop.is_set():
            began = time.monotonic()
            status, _ = ask(port, bodies[len(told) % len(bodies)])
            told.append((status, time.monotonic() - began))

    asks = Thread(target=go_on)
    asks.start()
    try:
        yield told
    finally:
        stop.set()
        asks.join()


def noticed(apps: int, told: Sequence[Sequence[tuple[int, float]]], of_200: Sequence[Answers]) -> Noticed:
    """told: of whole catalogues, alone and beside the 200s; of_200: alone and beside whole catalogues."""
    medians = [quantiles_ms(np.array([took for status, took in each if status == OK]), (0.5,))[0] for each in told]
    good = [answers.only(answers.status == OK).latency_s for answers in of_200]
    (p50, p99), (held_p50, held_p99) = (quantiles_ms(seconds, (0.5, 0.99)) for seconds in good)
    statuses = np.array([*of_200[1].status.tolist(), *(status for each in told for status, _ in each)])
    failed, refused = int((~np.isin(statuses, (OK, REFUSED))).sum()), int((statuses == REFUSED).sum())
    return Noticed(apps, medians[0], medians[1], (p50, p99), (held_p50, held_p99), refused, failed)


def measured(target: Target, reference: Reference, *, seconds: float, share: float) -> Noticed:
    """Everything of one catalogue, its tables and users warm."""
    bodies = [whole(body) for body in reference.bodies(CANDIDATES)]
    pace = Pace(share * target.capacity(seconds=CAPACITY_S), seconds)
    ask(target.port, bodies[0])
    with asking(target.port, bodies) as alone:
        time.sleep(seconds)
    few = target.load(pace).finish()
    with asking(target.port, bodies) as beside:
        held = target.load(pace).finish()
    return noticed(reference.work.apps, (alone, beside), (few, held))


def report(found: Sequence[Noticed]) -> str:
    """A row a catalogue."""
    rows = []
    for one in found:
        figures = (one.whole_ms, one.beside_ms, *one.alone, *one.held)
        rows.append([f"{one.apps:,}", *(f"{ms:.1f}" for ms in figures), one.refused, one.failed])
    return table(HEAD, rows)


def main() -> None:
    """Prepare, measure, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--apps", type=int, nargs="+", default=(4_000, 1_000_000))
    parser.add_argument("--seconds", type=float, default=10.0, help="of each of the three")
    parser.add_argument("--load", type=float, default=0.3, help="share of the capacity at which 200 are asked for")
    parser.add_argument("--precision", choices=("auto", "exact", "fast"), default="auto")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    found: list[Noticed] = []
    for apps in arguments.apps:
        reference = prepare(arguments.cache / f"reference-{apps}", Work(apps=apps))
        with served(Setup(reference, 1, arguments.precision)) as target:
            found.append(measured(target, reference, seconds=arguments.seconds, share=arguments.load))
        if arguments.json:
            arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")
    print(report(found))


if __name__ == "__main__":
    main()
