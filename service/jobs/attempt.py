"""A job's child process as its worker sees it: started, looked at, ended; it never outlives its worker."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Protocol

from service.lifeline import with_this_code

END_S = 10.0
LAST_LINES, LAST_BYTES = 20, 65_536


class Running(Protocol):
    """One attempt at a job."""

    def ended(self) -> int | None:
        """Its exit code, negative where a signal ended it; None while it runs."""

    def kill(self) -> None:
        """End it and what it started, at once."""

    def last_words(self) -> list[str]:
        """The last lines that it wrote of its own accord, once it has ended."""


@dataclass(frozen=True)
class Attempt:
    """A child in a session of its own, so that a Ctrl-C of the server is not its. `words`: its standard error."""

    process: "subprocess.Popen[bytes]"
    words: IO[bytes]

    @classmethod
    def start(cls, arguments: list[str], environ: Mapping[str, str]) -> "Attempt":
        """Start `python` with these arguments; it is to call `lifeline.end_with_parent` before anything else."""
        words = tempfile.TemporaryFile()  # noqa: SIM115  # open for as long as the child runs
        process = subprocess.Popen(
            [sys.executable, *arguments],
            env=with_this_code(environ),
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=words,
            start_new_session=True,
        )
        return cls(process, words)

    def ended(self) -> int | None:
        """Its exit code, None while it runs."""
        return self.process.poll()

    def kill(self) -> None:
        """End its whole session: it and the processes of the gate."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END_S)

    def last_words(self) -> list[str]:
        """The last lines of its standard error; asked once, since what joined it to its worker is closed then."""
        if self.process.stdin:
            self.process.stdin.close()
        with self.words:
            self.words.seek(max(0, self.words.seek(0, os.SEEK_END) - LAST_BYTES))
            return self.words.read().decode(errors="replace").strip().splitlines()[-LAST_LINES:]


def end_session() -> None:
    """Kill this process and whatever else is in its process group."""
    os.killpg(0, signal.SIGKILL)
