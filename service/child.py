"""Checks made in a process of its own: what crashes, hangs, eats memory or takes all of a core does it there.

`python -m service.child MODULE ARGUMENTS...` is that process. It ends when the process that started it does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from threading import Thread

import torch
from msgspec import DecodeError

from model.report import Check, decode_checks, encode_checks
from service.errors import JudgingBrokeOff

ROOT = Path(__file__).parent.parent
NICENESS = 10
FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Child:
    """A module that answers with checks on standard output; name: the check that fails where it does not."""

    module: str
    name: str
    timeout_s: float

    def checks(self, arguments: Sequence[str]) -> list[Check]:
        """Run it to its end. A crash, a timeout or another answer is a failed check; see `answered` for what raises.

        It has a session of its own, so that a terminal's Ctrl-C reaches this process only, which then ends it.
        """
        command = [sys.executable, "-m", "service.child", self.module, *arguments]
        try:
            with _lifeline() as life:
                ended = subprocess.run(
                    command,
                    cwd=ROOT,
                    stdin=life,
                    capture_output=True,
                    timeout=self.timeout_s,
                    check=False,
                    start_new_session=True,
                )
        except subprocess.TimeoutExpired:
            return [Check.failed(self.name, f"no end within {self.timeout_s:g} s", limit="a process that ends")]
        return self.answered(ended)

    def answered(self, ended: subprocess.CompletedProcess[bytes]) -> list[Check]:
        """What it answered, or the failed check where it did not. Raises JudgingBrokeOff where someone ended it."""
        if -ended.returncode in FROM_OUTSIDE:
            raise JudgingBrokeOff(self.name, signal=signal.Signals(-ended.returncode).name)
        if ended.returncode:
            lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["without a word"]
            words = f"ended with {ended.returncode}: {lines[-1].strip()}"
            return [Check.failed(self.name, words, limit="an end with 0")]
        try:
            return decode_checks(ended.stdout)
        except DecodeError as error:
            return [Check.failed(self.name, f"no list of checks: {error}", limit="a list of checks")]


def behave() -> None:
    """One thread and a low priority, so that a server beside this process keeps its cores."""
    torch.set_num_threads(1)
    os.nice(NICENESS)


def answer(checks: list[Check]) -> None:
    """Write the checks to standard output."""
    sys.stdout.buffer.write(encode_checks(checks))


def main(arguments: Sequence[str]) -> int:
    """Run the named module's `main` with the other arguments."""
    Thread(target=_end_with_parent, daemon=True).start()
    module, *others = arguments
    status: int = import_module(module).main(others)
    return status


@contextmanager
def _lifeline() -> Iterator[int]:
    """A pipe whose one end only this process holds: a child that reads the other sees it close when this one dies."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)


def _end_with_parent() -> None:
    os.read(sys.stdin.fileno(), 1)  # never sent; a buffered reader here would hold up this process's own end
    os._exit(1)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
