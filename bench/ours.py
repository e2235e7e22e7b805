"""This service at the reference work, with the limits that it has when nobody sets any, and load for it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from bench.openloop import Answers, Floats, Pace, Run, start
from bench.processes import Family
from bench.reference import Reference
from bench.server import Home, free_port, serving

CANDIDATES = 200
SETTINGS = {"APPSHELF_TORCH_THREADS": "1", "APPSHELF_LOG_LEVEL": "warning"}
START_LIMIT_S = 3_600.0
OK, REFUSED = 200, 503


@dataclass(frozen=True)
class Setup:
    """A home and how it is served. more: further settings."""

    reference: Reference
    workers: int = 2
    precision: str = "auto"
    more: Mapping[str, str] = field(default_factory=dict)

    def home(self) -> Home:
        """The home at a free port."""
        own = SETTINGS | {"APPSHELF_PRECISION": self.precision} | dict(self.more)
        return Home(self.reference.root, free_port(), own)


@dataclass(frozen=True)
class Target:
    """A server that is ready, and where load leaves what it heard."""

    port: int
    family: Family
    bodies: Path
    out: Path

    def load(self, pace: Pace) -> Run:
        """Load under way."""
        return start(self.port, self.bodies, pace, out=self.out)

    def capacity(self, *, seconds: float) -> float:
        """Right answers a second with every one of the connections busy."""
        answers = self.load(Pace(None, seconds)).finish()
        return float((answers.status == OK).sum()) / max(span_s(answers), 1e-9)


@contextmanager
def served(setup: Setup) -> Iterator[Target]:
    """The server, ended afterwards; every run logs what it shows into an empty log."""
    for file in setup.reference.root.glob("log.sqlite*"):
        file.unlink()
    home = setup.home()
    with serving(home, workers=setup.workers, within_s=START_LIMIT_S) as server, TemporaryDirectory() as folder:
        bodies = setup.reference.bodies_file(CANDIDATES)
        yield Target(home.port, Family(server), bodies, Path(folder) / "answers.npz")


def span_s(answers: Answers) -> float:
    """From the first that was due to the last that was answered."""
    return float(answers.received.max() - answers.due.min()) if answers.due.size else 0.0


def quantiles_ms(seconds: Floats, shares: Sequence[float]) -> list[float]:
    """Milliseconds that these shares stay within; NaN where there is none."""
    if not seconds.size:
        return [float("nan")] * len(shares)
    return [float(value) * 1e3 for value in np.quantile(seconds, shares)]
