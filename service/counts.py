"""Numbers that only grow: counted here in plain dicts, and shared with the other processes of a server through files.

prometheus_client's own way, a lock and a write to a mapped file for every value, costs a ranking more than reading its
body. Here a count is one dict entry, and what changed is written a few times a second.
"""

import math
import os
import tempfile
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from threading import Lock

import msgspec
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.utils import floatToGoString

Labels = tuple[str, ...]
Told = dict[str, list[tuple[Labels, list[float]]]]
"""A process's numbers by family, as in its file: labels with one number for a counter, with a histogram's otherwise."""

SUFFIX = ".counts"


@dataclass(frozen=True)
class Family:
    """One metric. bounds: upper ends of a histogram's buckets, rising, without infinity; none for a counter."""

    name: str
    help: str
    labels: Labels = ()
    bounds: tuple[float, ...] = ()

    @property
    def width(self) -> int:
        """How many numbers each set of labels has: a counter's one, or a histogram's buckets and its sum."""
        return len(self.bounds) + 2 if self.bounds else 1


class Counts:
    """What this process has counted and, where they share a folder, what the others of its server have.

    folder: where each process keeps its file; None for a process alone. Safe to call from any thread.
    """

    def __init__(self, families: Iterable[Family], folder: Path | None = None) -> None:
        self._families = {family.name: family for family in families}
        self._counters: dict[str, Counter[Labels]] = {}
        self._histograms: dict[str, dict[Labels, list[float]]] = {}
        for family in self._families.values():
            if family.bounds:
                self._histograms[family.name] = {} if family.labels else {(): [0.0] * family.width}
            else:
                self._counters[family.name] = Counter() if family.labels else Counter({(): 0})
        self._folder = folder
        self._file: Path | None = None
        self._written = b""
        self._counting, self._writing = Lock(), Lock()

    def add(self, family: Family, labels: Labels = (), *, amount: int = 1) -> None:
        """Count so many more under these labels of a counter."""
        with self._counting:
            self._counters[family.name][labels] += amount

    def add_each(self, family: Family, labels: Iterable[Labels]) -> None:
        """Count one more under each of these labels of a counter."""
        with self._counting:
            self._counters[family.name].update(labels)

    def observe(self, family: Family, value: float, *, labels: Labels = ()) -> None:
        """Count a value into its bucket, the first whose upper end it does not pass, and add it to the sum."""
        with self._counting:
            found = self._histograms[family.name]
            numbers = found.get(labels) or found.setdefault(labels, [0.0] * family.width)
            numbers[bisect_left(family.bounds, value)] += 1
            numbers[-1] += value

    def flush(self) -> None:
        """Let the other processes see what was counted since. Raises OSError where the folder cannot be written."""
        if self._folder is None:
            return
        with self._writing:
            told = msgspec.json.encode(self._told())
            if told != self._written:
                self._write(self._folder, told)
                self._written = told

    def metrics(self) -> Iterator[Metric]:
        """Every family, summed over this process as it is now and the others as they last told."""
        everyone = [self._told(), *self._others()]
        for name, family in self._families.items():
            totals: dict[Labels, list[float]] = {}
            for labels, numbers in (series for told in everyone for series in told.get(name, ())):
                before = totals.get(labels, [0.0] * family.width)
                totals[labels] = [one + other for one, other in zip(before, numbers, strict=True)]
            yield exposed(family, totals)

    def _told(self) -> Told:
        with self._counting:
            counters = {name: [(one, [float(n)]) for one, n in found.items()] for name, found in self._counters.items()}
            return counters | {
                name: [(one, list(numbers)) for one, numbers in found.items()]
                for name, found in self._histograms.items()
            }

    def _write(self, folder: Path, told: bytes) -> None:
        """Put this process's file in place whole, so that nobody reads half of it."""
        descriptor, aside = tempfile.mkstemp(prefix=f"{os.getpid()}-", dir=folder)
        try:
            with open(descriptor, "wb") as target:
                target.write(told)
            self._file = self._file or Path(aside + SUFFIX)
            os.replace(aside, self._file)
        except OSError:
            Path(aside).unlink(missing_ok=True)
            raise

    def _others(self) -> Iterator[Told]:
        files = sorted(self._folder.glob(f"*{SUFFIX}")) if self._folder else ()
        for file in files:
            if file != self._file:
                yield msgspec.json.decode(file.read_bytes(), type=Told)


def exposed(family: Family, totals: dict[Labels, list[float]]) -> Metric:
    """A family as Prometheus reads it; totals: as in Told, a histogram's buckets each by itself."""
    if not family.bounds:
        counter = CounterMetricFamily(family.name, family.help, labels=family.labels)
        for labels, (number,) in totals.items():
            counter.add_metric(labels, number)
        return counter
    histogram = HistogramMetricFamily(family.name, family.help, labels=family.labels)
    ends = [floatToGoString(end) for end in (*family.bounds, math.inf)]  # type: ignore[no-untyped-call]  # ships no types
    for labels, (*counted, total) in totals.items():
        so_far = [sum(counted[: place + 1]) for place in range(len(counted))]
        histogram.add_metric(labels, list(zip(ends, so_far, strict=True)), total)
    return histogram
