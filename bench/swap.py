"""Twenty swaps under a fixed load: failures, readiness, versions answered, p99 inside and outside the swaps, memory.

    python -m bench.swap [--swaps 20] [--workers 2] [--rate 60]

A home of its own: a synthetic store, two trained versions, and `appshelf serve`. Each swap goes back to the version
before, so that it is a whole rollout (load, dry run, table, warm-up in every worker, then commit) and nothing else.
"""

import argparse
import json
import secrets
import statistics
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from bench.server import Client, Home, free_port, resident_mib, serving
from model.data.synthetic import SyntheticConfig, dataset
from model.training import TrainConfig
from service.container import build
from service.importing import keep
from service.lifecycle import promote_version, train_version
from service.settings import Settings
from service.store.ports import Note

CONNECTIONS = 8
PAUSE_S = 1.5
POLL_S = 0.02


@dataclass(frozen=True)
class Answer:
    """One request's times (monotonic seconds), status (0: the connection failed) and version."""

    sent: float
    received: float
    status: int
    version: str | None


@dataclass(frozen=True)
class Swap:
    """One rollout as its caller saw it: the times of request and answer, and the version taken live."""

    began: float
    ended: float
    version: str


@dataclass
class Load:
    """Paced requests over keep-alive connections until stopped, each connection in a thread of its own."""

    port: int
    stop: threading.Event = field(default_factory=threading.Event)
    answers: list[Answer] = field(default_factory=list)
    probes: list[Answer] = field(default_factory=list)

    def run(self, bodies: Sequence[dict[str, Any]], rate: float) -> list[threading.Thread]:
        """Start the connections and the 50 Hz readiness probe; the threads, to be joined after `stop`."""
        share = [bodies[place::CONNECTIONS] for place in range(CONNECTIONS)]
        threads = [
            threading.Thread(target=self._rank, args=(part, CONNECTIONS / rate, place / rate))
            for place, part in enumerate(share)
        ]
        threads.append(threading.Thread(target=self._paced, args=(self._probe, POLL_S, self.probes)))
        for thread in threads:
            thread.start()
        return threads

    def _rank(self, bodies: Sequence[dict[str, Any]], every_s: float, first_s: float) -> None:
        time.sleep(first_s)
        client, turn = Client(self.port), iter(range(10**9))
        self._paced(lambda: client.call("POST", "/rank", bodies[next(turn) % len(bodies)]), every_s, self.answers)

    def _probe(self) -> tuple[int, Any]:
        return Client(self.port).call("GET", "/readyz")

    def _paced(self, call: Callable[[], tuple[int, Any]], every_s: float, into: list[Answer]) -> None:
        due = time.monotonic()
        while not self.stop.is_set():
            sent = time.monotonic()
            try:
                status, body = call()
            except OSError:
                status, body = 0, None
            into.append(Answer(sent, time.monotonic(), status, body.get("version") if body else None))
            due = max(due + every_s, time.monotonic() - every_s)
            self.stop.wait(max(0.0, due - time.monotonic()))


def prepare(home: Home) -> tuple[str, str]:
    """A synthetic store with two versions, the second live."""
    container = build(Settings.from_env(home.environ))
    made, _ = dataset(SyntheticConfig.demo())
    keep(made, container.home, container.features)
    versions = []
    for seed in (1, 2):
        config = TrainConfig(seed=seed, epochs=2)
        version = train_version(container, config, token=secrets.token_hex(3), progress=lambda _: None)
        promote_version(container, version, note=Note("bench", "two versions to swap between", force=True))
        versions.append(version)
    return versions[0], versions[1]


def bodies(count: int) -> list[dict[str, Any]]:
    """Requests of different users and contexts, the whole catalogue as candidates."""
    times = ("night", "morning", "afternoon", "evening")
    return [{"user": {"id": f"u{n % 900}"}, "context": {"daytime": times[n % 4]}, "k": 10} for n in range(count)]


def swap_many(home: Home, server: psutil.Process, count: int) -> tuple[list[Swap], dict[int, float]]:
    """Go back to the version before, `count` times; resident MiB after swaps 2 and the last."""
    client, swaps, memory = Client(home.port), [], dict[int, float]()
    for number in range(1, count + 1):
        time.sleep(PAUSE_S)
        began = time.monotonic()
        status, body = client.call("POST", "/admin/rollback", {})
        if status != 200:
            raise RuntimeError(f"swap {number} was refused with {status}: {body}")
        swaps.append(Swap(began, time.monotonic(), body["version"]))
        if number in (2, count):
            time.sleep(PAUSE_S)
            memory[number] = resident_mib(server)
    return swaps, memory


def wrong_versions(answers: Sequence[Answer], swaps: Sequence[Swap], first: str) -> int:
    """Answers whose version was not live at any moment between sending and receiving."""
    spans = [(first, 0.0, swaps[0].ended)]
    for place, swap in enumerate(swaps):
        spans.append((swap.version, swap.began, swaps[place + 1].ended if place + 1 < len(swaps) else float("inf")))
    return sum(
        not any(name == a.version and began <= a.received and a.sent <= ended for name, began, ended in spans)
        for a in answers
        if a.status == 200
    )


def p99(latencies: Sequence[float]) -> float:
    """The 99th percentile in milliseconds."""
    return statistics.quantiles(latencies, n=100)[98] * 1000 if len(latencies) > 1 else float("nan")


def main() -> None:
    """Run it, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rate", type=float, default=60.0, help="requests a second")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Home(Path(folder), free_port())
        _, live = prepare(home)
        with serving(home, workers=arguments.workers) as server:
            load = Load(home.port)
            threads = load.run(bodies(1000), arguments.rate)
            time.sleep(PAUSE_S)
            swaps, memory = swap_many(home, server, arguments.swaps)
            load.stop.set()
            for thread in threads:
                thread.join()
    report = summary(load, swaps, live)
    report |= {f"resident MiB after swap {number}": mib for number, mib in memory.items()}
    report["resident ratio"] = memory[arguments.swaps] / memory[2]
    for name, value in report.items():
        print(f"{name:32} {value:.2f}" if isinstance(value, float) else f"{name:32} {value}")
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1))


def summary(load: Load, swaps: Sequence[Swap], first: str) -> dict[str, float | int]:
    """The figures of a run."""
    during = [a for a in load.answers if any(s.began <= a.received and a.sent <= s.ended for s in swaps)]
    beside = [a for a in load.answers if a not in set(during)]
    inside, outside = (p99([a.received - a.sent for a in part]) for part in (during, beside))
    return {
        "swaps": len(swaps),
        "requests": len(load.answers),
        "failed requests": sum(a.status != 200 for a in load.answers),
        "readiness probes": len(load.probes),
        "probes not 200": sum(a.status != 200 for a in load.probes),
        "answers of a version not live": wrong_versions(load.answers, swaps, first),
        "median swap, s": statistics.median(s.ended - s.began for s in swaps),
        "p99 outside swaps, ms": outside,
        "p99 inside swaps, ms": inside,
        "p99 inside over outside": inside / outside,
    }


if __name__ == "__main__":
    main()
