"""torchrun as a test starts it, and what the machine must have for that."""

import importlib.util
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parent.parent.parent.parent
PATIENCE_S = 300.0


def require_extra() -> None:
    """Skip the test, saying why, where the extra is not installed; fail it there under CI=true."""
    missing = [name for name in ("torchrec", "fbgemm_gpu") if importlib.util.find_spec(name) is None]
    if missing:
        missed(f"{' and '.join(missing)} not installed; `make distributed` does that")


def missed(reason: str) -> None:
    """Skip the test, or fail it where none may be skipped."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI these tests are not skipped")
    pytest.skip(reason)


def environment(settings: dict[str, str]) -> dict[str, str]:
    """For processes that share a machine: each with one thread, and no settings but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("APPSHELF_")}
    return kept | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"} | settings


def torchrun(ranks: int, *words: str, options: Sequence[str] = ("--standalone",)) -> list[str]:
    """The command that runs a module on so many ranks."""
    return [sys.executable, "-m", "torch.distributed.run", *options, "--nproc-per-node", str(ranks), "-m", *words]


def finished(command: Sequence[str], **settings: str) -> subprocess.CompletedProcess[str]:
    """The command, run to its end."""
    return subprocess.run(
        command, env=environment(settings), cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )


def soon(true: Callable[[], bool]) -> bool:
    """Whether something becomes true while one may wait for it."""
    deadline = time.monotonic() + PATIENCE_S
    while not true():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def process_of(agent: subprocess.Popen[str], rank: int) -> psutil.Process:
    """The process that an agent runs as this rank."""
    return next(
        child
        for child in psutil.Process(agent.pid).children(recursive=True)
        if child.environ().get("RANK") == str(rank) and "torch.distributed.run" not in child.cmdline()
    )
