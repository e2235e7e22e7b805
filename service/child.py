"""Checks made in a process of its own: what crashes, hangs, eats memory or takes all of a core does it there."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from msgspec import DecodeError

from model.report import Check, decode_checks, encode_checks

ROOT = Path(__file__).parent.parent
NICENESS = 10


@dataclass(frozen=True)
class Child:
    """A module that answers with checks on standard output; name: the check that fails where it does not."""

    module: str
    name: str
    timeout_s: float

    def checks(self, arguments: Sequence[str]) -> list[Check]:
        """Run it to its end. A crash, a timeout or another answer is a failed check."""
        command = [sys.executable, "-m", self.module, *arguments]
        try:
            ended = subprocess.run(command, cwd=ROOT, capture_output=True, timeout=self.timeout_s, check=False)
        except subprocess.TimeoutExpired:
            return [Check.failed(self.name, f"no end within {self.timeout_s:g} s", limit="a process that ends")]
        return self.answered(ended)

    def answered(self, ended: subprocess.CompletedProcess[bytes]) -> list[Check]:
        """What it answered, or the failed check where it did not."""
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
