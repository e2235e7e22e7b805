"""Load from wrk: as many keep-alive connections as asked for, each sending the next body once it has its answer."""

import json
import random
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).with_name("wrk.lua")


class WrkMissing(RuntimeError):
    """There is no wrk on this machine; the message says how to get it."""


@dataclass(frozen=True)
class Load:
    """What to send and how: seconds a run, connections, and a file of bodies, one a line."""

    bodies: Path
    connections: int
    seconds: float


@dataclass(frozen=True)
class Outcome:
    """What came of one run. refused: answers with a status of 400 and above; failed: connections, reads, time-outs."""

    requests: int
    seconds: float
    refused: int
    failed: int
    p50_ms: float
    p99_ms: float
    p999_ms: float

    @property
    def per_second(self) -> float:
        """Answers a second, right ones."""
        return (self.requests - self.refused) / self.seconds


def program() -> str:
    """Where wrk is. Raises WrkMissing."""
    found = shutil.which("wrk")
    if found is None:
        raise WrkMissing("wrk is not installed; `apt install wrk` on Debian and Ubuntu, `brew install wrk` on macOS")
    return found


def start(url: str, load: Load) -> "subprocess.Popen[str]":
    """A run under way, on one thread. Raises WrkMissing."""
    shape = ["-t1", f"-c{load.connections}", f"-d{load.seconds:.0f}s", "--timeout", "30s"]
    words = [program(), *shape, "-s", str(SCRIPT), url]
    first = random.randrange(1_000)  # so that no run begins with what the one before it has just warmed
    return subprocess.Popen([*words, "--", str(load.bodies), str(first)], stdout=subprocess.PIPE, text=True)


def finish(run: "subprocess.Popen[str]") -> Outcome:
    """Wait for the run and read what it printed. Raises RuntimeError where it printed nothing of the kind."""
    printed, _ = run.communicate()
    return parse(printed)


def parse(printed: str) -> Outcome:
    """The outcome in what wrk with wrk.lua prints."""
    lines = [line for line in printed.splitlines() if line.startswith("{")]
    if len(lines) != 1:
        raise RuntimeError(f"wrk printed {len(lines)} lines of JSON where one is expected: {printed.strip()[-300:]!r}")
    told = json.loads(lines[0])
    return Outcome(
        requests=told["requests"],
        seconds=told["duration_us"] / 1e6,
        refused=told["refused"],
        failed=told["failed"],
        p50_ms=told["p50_us"] / 1e3,
        p99_ms=told["p99_us"] / 1e3,
        p999_ms=told["p999_us"] / 1e3,
    )
