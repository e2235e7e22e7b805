"""Load at a rate of its own, whatever the server answers: requests are due at times drawn before, and so is latency.

    python -m bench.openloop PORT BODIES --out ANSWERS [--rate 500] [--seconds 10] [--connections 32] [--even]

A process of its own with one thread, ready-made bytes and plain sockets, so that it takes little of the server's
processor. Without --rate each connection sends its next request once it has its answer, which finds the capacity.
SIGTERM ends it early; what it has heard by then is in --out, see `Answers`.
"""

import argparse
import gc
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.wires import Wires

Floats = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

DRAIN_S = 10.0
AT_ONCE_S = 0.05
"""How long it listens at most before it looks whether it is to end."""


@dataclass(frozen=True)
class Pace:
    """rate: requests a second, None for as fast as the connections allow; even: not drawn from a Poisson process."""

    rate: float | None = None
    seconds: float = 5.0
    connections: int = 32
    even: bool = False


@dataclass(frozen=True)
class Answers:
    """Everything that was sent, in the order of the answers, (n,) each; times are monotonic seconds.

    due, sent, received; status: 0 where the connection failed or there was none; version: place among `versions`, -1
    where none was named; hinted: 1 where a Retry-After came with it.
    """

    due: Floats
    sent: Floats
    received: Floats
    status: Numbers
    version: Numbers
    hinted: Numbers
    versions: tuple[str, ...]

    @property
    def latency_s(self) -> Floats:
        """(n,) from when each was due, so that a server that stalls is charged for all who come meanwhile."""
        return self.received - self.due

    @property
    def late_s(self) -> Floats:
        """(n,) how late each was sent, which is the generator's own fault and counts as latency all the same."""
        return self.sent - self.due

    def only(self, chosen: npt.NDArray[np.bool_]) -> "Answers":
        """Those of a mask (n,)."""
        return Answers(
            due=self.due[chosen],
            sent=self.sent[chosen],
            received=self.received[chosen],
            status=self.status[chosen],
            version=self.version[chosen],
            hinted=self.hinted[chosen],
            versions=self.versions,
        )


@dataclass(frozen=True)
class Run:
    """A generator under way."""

    process: "subprocess.Popen[bytes]"
    out: Path

    def finish(self, *, early: bool = False) -> Answers:
        """Wait for its end, or ask for it. Raises RuntimeError where it broke off."""
        if early:
            self.process.terminate()
        if code := self.process.wait():
            raise RuntimeError(f"the load generator ended with {code}")
        return read(self.out)


def start(port: int, bodies: Path, pace: Pace, *, out: Path) -> Run:
    """Begin to send the bodies, one a line, to a server of this machine; what comes of it is written to `out`."""
    rate = [] if pace.rate is None else ["--rate", str(pace.rate)]
    words = [*rate, "--seconds", str(pace.seconds), "--connections", str(pace.connections)]
    command = [sys.executable, "-m", "bench.openloop", str(port), str(bodies), "--out", str(out), *words]
    return Run(subprocess.Popen([*command, *(["--even"] if pace.even else [])]), out)


def dues(pace: Pace, *, begin: float, rng: random.Random) -> Iterator[float]:
    """When each request of a rate is due, without end."""
    if pace.rate is None:
        raise ValueError("requests without a rate are due when a connection is free")
    if pace.even:
        yield from (begin + number / pace.rate for number in count())
    due = begin
    while True:
        due += rng.expovariate(pace.rate)
        yield due


def offer(wires: Wires, pace: Pace, *, rng: random.Random, stopped: Sequence[object]) -> None:
    """Send at the pace until its end, or until something is in `stopped`; then wait for what is still out."""
    begin = time.monotonic()
    end, coming = begin + pace.seconds, dues(pace, begin=begin, rng=rng)
    due = next(coming)
    while (now := time.monotonic()) < end and not stopped:
        wires.receive(min(due - now, AT_ONCE_S))
        while due <= time.monotonic() and due < end:
            wires.send(due)
            due = next(coming)
    _drain(wires)


def saturate(wires: Wires, pace: Pace, *, stopped: Sequence[object]) -> None:
    """Keep every connection busy until the pace's end, or until something is in `stopped`; then wait as `offer`."""
    end = time.monotonic() + pace.seconds
    while (now := time.monotonic()) < end and not stopped:
        while wires.free:
            wires.send(time.monotonic())
        wires.receive(min(end - now, AT_ONCE_S))
    _drain(wires)


def _drain(wires: Wires) -> None:
    until = time.monotonic() + DRAIN_S
    while wires.out and (left := until - time.monotonic()) > 0:
        wires.receive(min(left, AT_ONCE_S))
    wires.give_up()


def write(wires: Wires, out: Path) -> None:
    """Keep everything heard."""
    columns: dict[str, Any] = {name: np.array(column) for name, column in vars(wires.heard).items()}
    with out.open("wb") as file:
        np.savez(file, versions=np.array(wires.versions, dtype=np.str_), **columns)


def read(file: Path) -> Answers:
    """What `write` kept."""
    with np.load(file, allow_pickle=False) as kept:
        found = {name: kept[name] for name in kept.files}
    versions = tuple(str(name) for name in found.pop("versions"))
    return Answers(**found, versions=versions)


def main() -> None:
    """Send, and write what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("bodies", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rate", type=float, help="requests a second")
    parser.add_argument("--seconds", type=float, default=Pace.seconds)
    parser.add_argument("--connections", type=int, default=Pace.connections, help="open from the start")
    parser.add_argument("--even", action="store_true", help="requests at even distances")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    stopped: list[object] = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    gc.disable()  # nothing here goes round in circles, and a collection would be taken for the server's
    pace = Pace(arguments.rate, arguments.seconds, arguments.connections, arguments.even)
    wires = Wires(arguments.port, arguments.bodies.read_bytes().splitlines(), connections=pace.connections)
    if pace.rate is None:
        saturate(wires, pace, stopped=stopped)
    else:
        offer(wires, pace, rng=random.Random(arguments.seed), stopped=stopped)
    write(wires, arguments.out)


if __name__ == "__main__":
    main()
