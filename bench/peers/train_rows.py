"""Rows to train on as `bench.train_work` wrote them, and the figures of a run: NumPy and nothing of appshelf."""

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
MARK = "figures: "
WARM = 12
"""Batches before those that are timed: until then a process asks the kernel for memory that it has not touched yet."""


@dataclass(frozen=True)
class Rows:
    """One network and its rows. ids: (B, F) int64, each within its field's size; dense: (B, D) float32; label: (B,)."""

    ids: Array
    dense: Array
    label: Array
    sizes: tuple[int, ...]
    dim: int
    hidden: tuple[int, ...]
    batch_norm: bool
    dropout: float
    batch: int

    @classmethod
    def read(cls, folder: Path) -> "Rows":
        """What is in the folder."""
        ids, dense, label = (np.load(folder / f"{name}.npy") for name in ("ids", "dense", "label"))
        net = json.loads((folder / "work.json").read_text(encoding="utf-8"))
        sizes, hidden = tuple(net["sizes"]), tuple(net["hidden"])
        return cls(ids, dense, label, sizes, net["dim"], hidden, net["batch_norm"], net["dropout"], net["batch_size"])

    def __len__(self) -> int:
        return len(self.label)

    @property
    def names(self) -> list[str]:
        """Of the id fields."""
        return [f"id{place}" for place in range(len(self.sizes))]

    @property
    def numbers(self) -> list[str]:
        """Of the continuous fields."""
        return [f"number{place}" for place in range(self.dense.shape[1])]

    def first(self, count: int) -> "Rows":
        """The same network with fewer rows."""
        parts = (self.ids[:count], self.dense[:count], self.label[:count])
        return Rows(*parts, self.sizes, self.dim, self.hidden, self.batch_norm, self.dropout, self.batch)


def given() -> Rows:
    """The rows of the folder that the command line names."""
    return Rows.read(Path(sys.argv[1]))


@contextmanager
def measured(samples: int) -> Iterator[None]:
    """Time what is inside, and print its figures as a line of JSON: processor time is that of children too."""
    wall, cpu = time.perf_counter(), cpu_s()
    yield
    report(samples, wall_s=time.perf_counter() - wall, spent_s=cpu_s() - cpu)


def report(samples: int, *, wall_s: float, spent_s: float) -> None:
    """Print figures as a line of JSON, with the most memory that the process has held so far."""
    figures = {"samples": samples, "wall_s": wall_s, "cpu_s": spent_s, "peak_mib": _peak_mib()}
    print(f"\n{MARK}{json.dumps(figures)}", flush=True)


def _peak_mib() -> float:
    """The most resident memory of this program; what `getrusage` counts is of the process that started it too."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def cpu_s() -> float:
    """User and system seconds of this process, and of its children that ended."""
    mine, children = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return mine.ru_utime + mine.ru_stime + children.ru_utime + children.ru_stime
