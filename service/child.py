"""Checks made in a process of its own: what crashes, hangs, eats memory or takes all of a core does it there.

`python -m service.child MODULE ARGUMENTS...` is that process. It ends when the process that started it does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from math import ceil

import torch
from msgspec import DecodeError

from model.report import Check, decode_checks, encode_checks
from service.errors import JudgingBrokeOff
from service.lifeline import NICENESS, ROOT, end_with_parent

LOOK_EVERY_S = 0.5
FROM_OUTSIDE = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True)
class Child:
    """A module that answers with checks on standard output; name: the check that fails where it does not.

    interrupted: true from the moment that this process is to end, and with it what it waits for.
    """

    module: str
    name: str
    timeout_s: float
    interrupted: Callable[[], bool] = lambda: False

    def checks(self, arguments: Sequence[str]) -> list[Check]:
        """Run it to its end. A crash, a timeout or another answer is a failed check. Raises JudgingBrokeOff."""
        command = [sys.executable, "-m", "service.child", self.module, *arguments]
        try:
            return self.answered(self._run_apart(command))
        except subprocess.TimeoutExpired:
            return [Check.failed(self.name, f"no end within {self.timeout_s:g} s", limit="a process that ends")]

    def _run_apart(self, command: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run it in a session of its own: a terminal's Ctrl-C reaches this process only, which then ends that one.

        Raises TimeoutExpired and JudgingBrokeOff. Whatever ends the wait ends the command.
        """
        pipe = subprocess.PIPE
        with (
            _lifeline() as life,
            subprocess.Popen(
                command, cwd=ROOT, stdin=life, stdout=pipe, stderr=pipe, start_new_session=True
            ) as process,
        ):
            try:
                output, errors = self._output_of(process)
            finally:
                process.kill()  # nothing where it has ended
                process.wait()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def _output_of(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        for _ in range(ceil(self.timeout_s / LOOK_EVERY_S)):
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=min(LOOK_EVERY_S, self.timeout_s))
            if self.interrupted():
                raise JudgingBrokeOff(self.name, cause="the end of the one that asked")
        raise subprocess.TimeoutExpired(process.args, self.timeout_s)

    def answered(self, ended: subprocess.CompletedProcess[bytes]) -> list[Check]:
        """What it answered, or the failed check where it did not. Raises JudgingBrokeOff where someone ended it."""
        if -ended.returncode in FROM_OUTSIDE:
            raise JudgingBrokeOff(self.name, cause=signal.Signals(-ended.returncode).name)
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
    end_with_parent(lambda: os._exit(1))
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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
