"""What suits this machine: how long scoring takes by batch and threads, and the settings that follow from it.

Every measurement is made in processes of its own whose threads are pinned before they import anything; those that
would serve side by side measure side by side, so that what they share, a cache or a memory's bandwidth, counts.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from service.errors import ServiceError
from service.lifeline import with_this_code

CANDIDATES = 200
PAPER_MS: Mapping[tuple[int, int], float] = {(200, 1): 31.0, (100, 2): 17.0, (50, 4): 14.0}
"""Cheng et al. 2016, table 2: batch size and threads -> ms for the candidates of a request."""

TOGETHER = (1, 2, 4, 8, 16)
AS_GOOD = 0.97
"""A throughput that is this much of the best is as good; of those the one with the shortest wait is chosen."""

POOLS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
QUOTA = Path("/sys/fs/cgroup/cpu.max")


class CalibrationFailed(ServiceError):
    """A process that was to measure ended before it had."""

    def __init__(self, reason: str) -> None:
        super().__init__(f"nothing was measured: {reason}; mend the cause and run `appshelf bench` again")


@dataclass(frozen=True)
class Cut:
    """One request's CANDIDATES in batches of so many over so many threads. ms: the median; paper_ms: the paper's."""

    batch: int
    threads: int
    ms: float
    paper_ms: float | None


@dataclass(frozen=True)
class Layout:
    """So many workers of so many torch threads that score so many requests together, all of them busy.

    ms: the median of a call; p99_ms: the slowest of 100's; per_s: requests of all workers in a second.
    """

    requests: int
    threads: int
    workers: int
    ms: float
    p99_ms: float
    per_s: float

    @property
    def settings(self) -> dict[str, int]:
        """The settings that make a server like this."""
        return {"workers": self.workers, "torch_threads": self.threads, "batch_limit": self.requests}


@dataclass(frozen=True)
class Calibration:
    """What was measured. work: on what; precision: in which."""

    work: str
    precision: str
    cuts: tuple[Cut, ...]
    layouts: tuple[Layout, ...]

    def chosen(self, within_ms: float) -> Layout:
        """The highest throughput of those whose call takes at most so long; where none does, the shortest call."""
        able = [one for one in self.layouts if one.ms <= within_ms]
        best = max((one.per_s for one in able), default=0.0)
        return min([one for one in able if one.per_s >= AS_GOOD * best] or self.layouts, key=lambda one: one.ms)


def calibrate(environ: Mapping[str, str], *, cores: int, seconds: float) -> Calibration:
    """Measure with the home's live version, or the paper's size where nothing is live, for so many seconds a figure.

    Raises CalibrationFailed.
    """
    threads = thread_counts(cores)
    wanted = [(batch, count) for batch, _ in PAPER_MS for count in thread_counts(min(cores, 4))]
    (about, took), *_ = measure(environ, Plan(1, 1, wanted, seconds))
    cuts = [
        Cut(batch, count, one["ms"], PAPER_MS.get((batch, count)))
        for (batch, count), one in zip(wanted, took, strict=True)
    ]
    layouts = [
        layout
        for count in threads
        for layout in _layouts(environ, Plan(max(1, cores // count), count, [(n,) for n in TOGETHER], seconds))
    ]
    return Calibration(about["work"], about["precision"], tuple(cuts), tuple(layouts))


def thread_counts(cores: int) -> list[int]:
    """1, 2, 4, ... up to the cores, and the cores."""
    return sorted({2**power for power in range(cores.bit_length()) if 2**power <= cores} | {cores})


@dataclass(frozen=True)
class Plan:
    """Processes that measure side by side, the threads that torch has in each, and what each measures for how long."""

    processes: int
    threads: int
    wanted: Sequence[tuple[int, ...]]
    seconds: float

    @property
    def command(self) -> list[str]:
        """The command line of each process."""
        given = {"--threads": self.threads, "--seconds": self.seconds, "--wanted": json.dumps(self.wanted)}
        words = [str(word) for pair in given.items() for word in pair]
        return [sys.executable, "-m", "service.timing", *words]


def _layouts(environ: Mapping[str, str], plan: Plan) -> Iterator[Layout]:
    answers = [took for _, took in measure(environ, plan)]
    for (requests,), *columns in zip(plan.wanted, *answers, strict=True):
        yield Layout(
            requests=requests,
            threads=plan.threads,
            workers=plan.processes,
            ms=max(one["ms"] for one in columns),
            p99_ms=max(one["p99_ms"] for one in columns),
            per_s=sum(requests * one["calls"] / one["all_s"] for one in columns),
        )


def measure(environ: Mapping[str, str], plan: Plan) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """What each process measured on what, begun when all of them are ready. Raises CalibrationFailed."""
    variables = with_this_code({**environ, **dict.fromkeys(POOLS, str(plan.threads))})
    with ExitStack() as running:
        processes = [running.enter_context(_process(plan.command, variables)) for _ in range(plan.processes)]
        about = [process.line() for process in processes]
        if not all(about):
            raise CalibrationFailed("the live version's catalogue has no app; `PUT /apps` or `appshelf import` first")
        for process in processes:
            process.go()
        return [(one, process.line()) for one, process in zip(about, processes, strict=True)]


@dataclass(frozen=True)
class _Process:
    process: "subprocess.Popen[bytes]"
    errors: IO[bytes]

    def go(self) -> None:
        """Have it measure."""
        assert self.process.stdin
        self.process.stdin.write(b"go\n")
        self.process.stdin.flush()

    def line(self) -> Any:  # noqa: ANN401  # JSON
        """Its next answer. Raises CalibrationFailed with the last that it said where there is none."""
        assert self.process.stdout
        if line := self.process.stdout.readline():
            return json.loads(line)
        self.process.wait()
        self.errors.seek(0)
        said = self.errors.read().decode(errors="replace").strip().splitlines() or ["without a word"]
        raise CalibrationFailed(f"a measuring process ended with {self.process.returncode}, {said[-1].strip()}")


@contextmanager
def _process(command: Sequence[str], variables: Mapping[str, str]) -> Iterator[_Process]:
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(command, env=variables, stdin=pipe, stdout=pipe, stderr=errors) as process,
    ):
        try:
            yield _Process(process, errors)
        finally:
            process.kill()  # nothing where it has ended


def usable_cores(quota: Path = QUOTA) -> int:
    """The processors that this process may use, in a container with a quota no more than that."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        allowed, period = quota.read_text(encoding="ascii").split()
    except (OSError, ValueError):
        return cores
    return cores if allowed == "max" else max(1, min(cores, int(allowed) // int(period)))
