"""A module run to its end in a process of its own, which ends when the one that started it does.

What crashes, hangs, eats memory or takes all of a core does it there.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from math import ceil

from service.lifeline import ROOT

LOOK_EVERY_S = 0.5


class Interrupted(Exception):
    """The process that waits is to end, and with it what it waits for."""


@dataclass(frozen=True)
class Apart:
    """How a module is run: `python -m service.child MODULE ARGUMENTS...`, for so many seconds at most.

    interrupted: true from the moment that this process is to end; environ: None for this process's own; shared: open
    descriptors that the other process keeps open too.
    """

    timeout_s: float
    interrupted: Callable[[], bool] = lambda: False
    environ: Mapping[str, str] | None = None
    shared: tuple[int, ...] = ()

    def run(self, module: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        """Run it to its end, in a session of its own: a terminal's Ctrl-C reaches this process only.

        Raises TimeoutExpired and Interrupted. Whatever ends the wait ends the command.
        """
        command = [sys.executable, "-m", "service.child", module, *arguments]
        with _lifeline() as life, self._started(command, life) as process:
            try:
                output, errors = self._output_of(process)
            finally:
                process.kill()  # nothing where it has ended
                process.wait()
        return subprocess.CompletedProcess(command, process.returncode, output, errors)

    def _started(self, command: Sequence[str], life: int) -> "subprocess.Popen[bytes]":
        return subprocess.Popen(
            command,
            cwd=ROOT,
            env=self.environ,
            stdin=life,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=self.shared,
            start_new_session=True,
        )

    def _output_of(self, process: "subprocess.Popen[bytes]") -> tuple[bytes, bytes]:
        for _ in range(ceil(self.timeout_s / LOOK_EVERY_S)):
            with suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=min(LOOK_EVERY_S, self.timeout_s))
            if self.interrupted():
                raise Interrupted
        raise subprocess.TimeoutExpired(process.args, self.timeout_s)


def last_words(ended: "subprocess.CompletedProcess[bytes]") -> str:
    """The last line that a process wrote to its standard error."""
    lines = ended.stderr.decode(errors="replace").strip().splitlines() or ["without a word"]
    return lines[-1].strip()


@contextmanager
def _lifeline() -> Iterator[int]:
    """A pipe whose one end only this process holds: a child that reads the other sees it close when this one dies."""
    theirs, ours = os.pipe()
    try:
        yield theirs
    finally:
        os.close(theirs)
        os.close(ours)
