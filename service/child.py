"""Checks made in a process of its own, and what that process begins with.

`python -m service.child MODULE ARGUMENTS...` is that process. It ends when the process that started it does.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module

import torch
from msgspec import DecodeError

from model.report import Check, decode_checks, encode_checks
from service.apart import Apart, Interrupted, last_words
from service.errors import JudgingBrokeOff
from service.lifeline import NICENESS, end_with_parent

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
        try:
            return self.answered(Apart(self.timeout_s, self.interrupted).run(self.module, arguments))
        except Interrupted as error:
            raise JudgingBrokeOff(self.name, cause="the end of the one that asked") from error
        except subprocess.TimeoutExpired:
            return [Check.failed(self.name, f"no end within {self.timeout_s:g} s", limit="a process that ends")]

    def answered(self, ended: subprocess.CompletedProcess[bytes]) -> list[Check]:
        """What it answered, or the failed check where it did not. Raises JudgingBrokeOff where someone ended it."""
        if -ended.returncode in FROM_OUTSIDE:
            raise JudgingBrokeOff(self.name, cause=signal.Signals(-ended.returncode).name)
        if ended.returncode:
            words = f"ended with {ended.returncode}: {last_words(ended)}"
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


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
