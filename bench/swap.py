"""A hundred swaps under load: failures, readiness, latency inside and outside the swaps, and memory after each.

    python -m bench.swap [--swaps 100] [--load 0.65] [--pause 4] [--kept-tables] [--preload LIBRARY]
                         [--precision auto] [--cache FOLDER] [--json FILE]

The reference work with two versions and two workers. Open-loop load at a share of the capacity that is measured first
in the same run. Each swap goes back to the version before: a whole rollout in every worker, its app table built anew
each time as a new version's is, unless --kept-tables. A request is inside where its time touches that of a rollout
or of the pause after it, in which the former version is given back. What touches the look at the memory that follows is
neither inside nor outside, since looking stops the processes that are looked at.
"""

import argparse
import json
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.openloop import Answers, Pace
from bench.ours import OK, REFUSED, Setup, Target, quantiles_ms, served
from bench.reference import Reference, Work, prepare
from bench.server import Client
from bench.swap_versions import another, drop_table

WARM_S, CAPACITY_S, LEAD_S, POLL_S = 3.0, 5.0, 3.0, 0.05
GROUP = 10
SETTINGS = {"APPSHELF_ROLLOUT_DEADLINE_S": "900"}
FOR_EVER_S = 1e6


@dataclass(frozen=True)
class Swap:
    """One rollout as its caller saw it, in monotonic seconds, and memory in MiB some time after it.

    looked: when the memory was looked at, from and to.
    """

    began: float
    ended: float
    version: str
    resident_mib: float
    pss_mib: float
    looked: tuple[float, float]


@dataclass(frozen=True)
class Plan:
    """How many swaps, how long between them, the share of the capacity offered, and whether tables are kept."""

    swaps: int
    pause_s: float
    load: float
    kept_tables: bool


def run(target: Target, reference: Reference, plan: Plan) -> dict[str, Any]:
    """Find the capacity, load the server, swap, and tell what happened."""
    target.capacity(seconds=WARM_S)
    capacity = target.capacity(seconds=CAPACITY_S)
    first: str = Client(target.port).call("GET", "/version")[1]["live"]
    load = target.load(Pace(plan.load * capacity, FOR_EVER_S))
    probes = Probes(target.port)
    try:
        time.sleep(LEAD_S)
        swaps = swap_many(target, reference, plan)
    finally:
        probes.stop()
        answers = load.finish(early=True)
    swapping = {"capacity, requests/s": capacity, "offered, requests/s": plan.load * capacity, "swaps": plan.swaps}
    return swapping | probes.summary() | summary(answers, swaps, first) | memory(swaps)


class Probes:
    """Asks for readiness every POLL_S, in a thread of its own."""

    def __init__(self, port: int) -> None:
        self._stop, self._statuses = threading.Event(), list[int]()
        self._thread = threading.Thread(target=self._ask, args=(port,))
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        self._thread.join()

    def summary(self) -> dict[str, int]:
        """How often it asked, and how often the answer was not a 200."""
        return {"readiness probes": len(self._statuses), "probes not 200": sum(one != OK for one in self._statuses)}

    def _ask(self, port: int) -> None:
        while not self._stop.wait(POLL_S):
            try:
                self._statuses.append(Client(port).call("GET", "/readyz")[0])
            except OSError:
                self._statuses.append(0)


def swap_many(target: Target, reference: Reference, plan: Plan) -> list[Swap]:
    """Go back to the version before, again and again. Raises RuntimeError where that is refused."""
    swaps = list[Swap]()
    for number in range(plan.swaps):
        if not plan.kept_tables:
            drop_table(reference.root, but=Client(target.port).call("GET", "/version")[1]["live"])
        time.sleep(plan.pause_s)
        began = time.monotonic()
        # A connection that idled through the pause would have been closed.
        status, body = Client(target.port, timeout_s=1_000.0).call("POST", "/admin/rollback", {})
        ended = time.monotonic()
        if status != OK:
            raise RuntimeError(f"swap {number + 1} was refused with {status}: {body}")
        time.sleep(plan.pause_s)
        looked = time.monotonic()
        resident_mib, pss_mib = target.family.resident_mib(), target.family.pss_mib()
        swaps.append(Swap(began, ended, body["version"], resident_mib, pss_mib, (looked, time.monotonic())))
        print(f"swap {number + 1} of {plan.swaps}: {ended - began:.1f} s, {swaps[-1].pss_mib:.0f} MiB", flush=True)
    return swaps


def summary(answers: Answers, swaps: Sequence[Swap], first: str) -> dict[str, float | int]:
    """What became of the requests, and latency beside and during the swaps, measured from when each was due."""
    inside = touched(answers, [(one.began, one.looked[0]) for one in swaps])
    outside = ~inside & ~touched(answers, [one.looked for one in swaps])
    good = answers.status == OK
    found: dict[str, float | int] = {
        "requests": answers.due.size,
        "requests inside swaps": int(inside.sum()),
        "failed requests": int((~np.isin(answers.status, (OK, REFUSED))).sum()),
        "refused requests": int((answers.status == REFUSED).sum()),
        "answers of a version not live": wrong_versions(answers, swaps, first),
        "median swap, s": float(np.median([one.ended - one.began for one in swaps])),
        "late sending p99, ms": quantiles_ms(answers.late_s, (0.99,))[0],
    }
    for name, share in (("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)):
        during, beside = (quantiles_ms(answers.only(good & part).latency_s, (share,))[0] for part in (inside, outside))
        found |= {f"{name} outside swaps, ms": beside, f"{name} inside swaps, ms": during}
        found[f"{name} inside over outside"] = during / beside
    return found


def touched(answers: Answers, spans: Sequence[tuple[float, float]]) -> npt.NDArray[np.bool_]:
    """(n,) whether a request was due or out at any time of the spans, each from and to in monotonic seconds."""
    found = np.zeros(answers.due.size, dtype=np.bool_)
    for began, ended in spans:
        found |= (answers.received >= began) & (answers.due <= ended)
    return found


def wrong_versions(answers: Answers, swaps: Sequence[Swap], first: str) -> int:
    """Answers whose version was not live at any moment between sending and receiving."""
    spans = [(first, 0.0, swaps[0].ended)]
    for place, swap in enumerate(swaps):
        spans.append((swap.version, swap.began, swaps[place + 1].ended if place + 1 < len(swaps) else float("inf")))
    right = np.zeros(answers.due.size, dtype=np.bool_)
    places = {name: place for place, name in enumerate(answers.versions)}
    for name, began, ended in spans:
        named = answers.version == places.get(name, -2)
        right |= named & (began <= answers.received) & (answers.sent <= ended)
    return int(((answers.status == OK) & ~right).sum())


def memory(swaps: Sequence[Swap]) -> dict[str, float]:
    """The second GROUP swaps beside the last; NaN where there are fewer than three groups of them."""
    found: dict[str, float] = {}
    for name, values in (("resident", [one.resident_mib for one in swaps]), ("PSS", [one.pss_mib for one in swaps])):
        early, late = _mean(values[GROUP : 2 * GROUP]), _mean(values[2 * GROUP :][-GROUP:])
        found |= {f"{name} MiB, second {GROUP}": early, f"{name} MiB, last {GROUP}": late}
        found[f"{name} last over second"] = late / early
    return found


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else float("nan")


def main() -> None:
    """Run it, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=100)
    parser.add_argument("--load", type=float, default=0.65, help="share of the capacity that is offered")
    parser.add_argument("--pause", type=float, default=4.0, help="seconds before and after each swap")
    parser.add_argument("--kept-tables", action="store_true", help="go back to the table that is there")
    parser.add_argument("--preload", default="", help="a library the server starts with, as another allocator's")
    parser.add_argument("--workers", type=int, default=Setup.workers)
    parser.add_argument("--precision", choices=("auto", "exact", "fast"), default="auto")
    parser.add_argument("--apps", type=int, default=Work.apps)
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "appshelf-bench")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    reference = prepare(arguments.cache / f"reference-{arguments.apps}", Work(apps=arguments.apps))
    another(reference)
    plan = Plan(arguments.swaps, arguments.pause, arguments.load, arguments.kept_tables)
    more = SETTINGS | {"LD_PRELOAD": arguments.preload} if arguments.preload else SETTINGS
    with served(Setup(reference, arguments.workers, arguments.precision, more)) as target:
        found = run(target, reference, plan)
    for name, value in found.items():
        print(f"{name:32} {value:.2f}" if isinstance(value, float) else f"{name:32} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
