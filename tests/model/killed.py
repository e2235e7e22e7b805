"""A training in a process of its own that kills itself at a step: `python -m tests.model.killed SPEC`.

SPEC: a JSON file of a `Plan`.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch

from model.bundle import load
from model.data.dataset import read
from model.training import Progress, TrainConfig, Training, Workspace
from model.warmstart import WarmStart

Point = tuple[str, int, int]
"""Phase, epoch and step after which the process dies."""


@dataclass(frozen=True)
class Plan:
    """What is trained, where, and when it dies. parent: a bundle's folder; every: steps between two checkpoints."""

    data: str
    workspace: str
    config: Mapping[str, Any]
    parent: str | None
    point: Point
    every: int = 2


def every(steps: int) -> Callable[[], bool]:
    """True once in so many times."""
    asked = count(1)
    return lambda: next(asked) % steps == 0


def training(plan: Plan, *, resume: bool, say: Callable[[str], None] = lambda _: None) -> Training:
    """The training of a plan."""
    space = Workspace(Path(plan.workspace), every(plan.every), resume, say)
    start = WarmStart(load(Path(plan.parent), optimizer=True)) if plan.parent else None
    return Training(TrainConfig.model_validate(plan.config), read(Path(plan.data)), start, space)


def killed(plan: Plan) -> int:
    """Run the plan in a process of its own; its exit code."""
    spec = Path(f"{plan.workspace}.json")
    spec.write_text(json.dumps(asdict(plan)))
    return subprocess.run([sys.executable, "-m", "tests.model.killed", str(spec)], check=False, timeout=300).returncode


def main(spec: str) -> None:
    """Train until the point, on as many threads as the tests do: sums of several threads differ in their last bits."""
    torch.set_num_threads(1)
    plan = Plan(**json.loads(Path(spec).read_text()))

    def die(seen: Progress) -> None:
        if (seen.phase, seen.epoch, seen.step) == tuple(plan.point):
            os.kill(os.getpid(), signal.SIGKILL)

    training(plan, resume=False).run(die)


if __name__ == "__main__":
    main(sys.argv[1])
