"""The runs of a home's comparisons, each kept under what it was made of, so that none is made twice."""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load_file

from model.bundle import BundleError, verify
from model.checks import Floats
from model.device import chosen
from model.manifest import new_version
from model.precision import training_dtype
from model.sealed import alone, locked
from model.training import Progress, TrainConfig, TrainingFailed
from service.comparing.run import GATE, RECORD, SCORES, RunRecord
from service.lifeline import ROOT

FORMAT = 2
MEMORY = -9
"""How the kernel ends a process where memory has run out."""


@dataclass(frozen=True)
class Run:
    """A finished run. scores: (B,) of the gate split's rows in order; folder: holds its bundle."""

    record: RunRecord
    scores: Floats
    folder: Path

    @property
    def bundle(self) -> Path:
        """The folder of its bundle."""
        return self.folder / self.record.version


class RunFailed(Exception):
    """A run that came to no end; the message says why."""


@dataclass(frozen=True)
class Wanted:
    """A run to be made, and what tells it from all others."""

    config: TrainConfig
    data: Path
    key: str


def key_of(config: TrainConfig, *, data: str, software: str) -> str:
    """What a run is kept under: another configuration, seed, dataset, release, torch or device makes another run.

    A home may be taken to a machine where `auto` means something else. Raises RunFailed where the device is not there.
    """
    try:
        device = chosen(config.device)
    except TrainingFailed as error:
        raise RunFailed(str(error)) from error
    made_by = [torch.__version__, device.type, str(training_dtype(config.precision, device))]
    parts = [FORMAT, config.model_dump(mode="json"), data, software, *made_by]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:24]


@dataclass(frozen=True)
class Runs:
    """folder: where runs are kept; train: makes one in a folder; clock: epoch seconds; token: a new one, see versions.

    `train` is given a configuration, the data's folder, the version and the folder to fill, and raises RunFailed.
    """

    folder: Path
    train: "Trainer"
    clock: Callable[[], float]
    token: Callable[[], str]

    def found(self, key: str) -> Run | None:
        """The run that is kept under a key, used from now on; None where there is none, or it is damaged."""
        folder = self.folder / key
        try:
            record = TypeAdapter(RunRecord).validate_json((folder / RECORD).read_bytes())
            run = Run(record, load_file(folder / SCORES)[GATE], folder)
            verify(run.bundle)
        except (OSError, ValidationError, SafetensorError, KeyError, BundleError):
            return None
        with suppress(OSError):  # of another user, or on a disk that is only read
            os.utime(folder, (self.clock(), self.clock()))
        return run

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """While a comparison goes on, during which none of its runs is swept by one beside it."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self.folder, fcntl.LOCK_SH):
            yield

    def sweep(self, *, keep: int, since: float) -> int:
        """Remove the runs that were used longest ago, but for the `keep` last and those used since a time; how many.

        What killed processes left half made goes too. Nothing does while any comparison goes on.
        """
        try:
            with locked(self.folder, fcntl.LOCK_EX | fcntl.LOCK_NB):
                used = sorted((one.stat().st_mtime, one) for one in self.folder.iterdir() if one.name[0] != ".")
                old = [one for at, one in used[: max(len(used) - keep, 0)] if at < since]
                for run in old:
                    run.rename(self._aside(run.name))
                for partial in self.folder.glob(".*.partial"):
                    shutil.rmtree(partial, ignore_errors=True)
                for lock in self._locks.glob("*"):
                    if not (self.folder / lock.name).exists():
                        lock.unlink()
                return len(old)
        except BlockingIOError:
            return 0

    def made(self, wanted: Wanted, *, progress: Callable[[Progress], None]) -> Run:
        """Make a run and keep it, whole or not at all. Raises RunFailed.

        A command beside this one that makes the same is waited for, and its run taken.
        """
        with alone(self._locks / wanted.key):
            return self.found(wanted.key) or self._made(wanted, progress)

    def _made(self, wanted: Wanted, progress: Callable[[Progress], None]) -> Run:
        aside = self._aside(wanted.key)
        for folder in (aside, self.folder / wanted.key):
            shutil.rmtree(folder, ignore_errors=True)
        aside.mkdir(parents=True)
        now = self.clock()
        words = {
            "--config": wanted.config.model_dump_json(),
            "--data": str(wanted.data.absolute()),
            "--version": new_version(now, self.token()),
            "--created-at": repr(now),
            "--folder": str(aside.absolute()),
        }
        try:
            self.train([word for pair in words.items() for word in pair], progress)
            aside.rename(self.folder / wanted.key)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
        if (run := self.found(wanted.key)) is None:
            raise RunFailed("the process that trained it left no run behind; run the comparison again")
        return run

    def forget(self, key: str) -> None:
        """Remove a run, nothing where there is none."""
        shutil.rmtree(self.folder / key, ignore_errors=True)

    @property
    def _locks(self) -> Path:
        return self.folder.with_name("locks")

    def _aside(self, key: str) -> Path:
        return self.folder / f".{key}.partial"


Trainer = Callable[[list[str], Callable[[Progress], None]], None]


def train_apart(arguments: list[str], progress: Callable[[Progress], None]) -> None:
    """Carry the order out in a process of its own, which ends with this one. Raises RunFailed."""
    pipe = subprocess.PIPE
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command_of(arguments), cwd=ROOT, stdin=pipe, stdout=pipe, stderr=errors, start_new_session=True
        ) as process,
    ):
        try:
            failed = _followed(process, progress)
            status = process.wait()
        finally:
            process.kill()  # nothing where it has ended
        if failed or status:
            raise RunFailed(failed or _last_words(status, errors))


def command_of(arguments: list[str]) -> list[str]:
    """The command line of the process that carries an order out."""
    return [sys.executable, "-m", "service.child", "service.comparing.run", *arguments]


def _followed(process: "subprocess.Popen[bytes]", progress: Callable[[Progress], None]) -> str | None:
    """Pass its progress on until it ends; what it said of a failure."""
    assert process.stdout
    failed = None
    for line in process.stdout:
        try:
            told: Any = json.loads(line)
        except ValueError:
            continue
        if not isinstance(told, dict):  # a library's own words too
            continue
        failed = told.get("failed", failed)
        if "progress" in told:
            progress(Progress(**told["progress"]))
    return failed


def _last_words(status: int, errors: IO[bytes]) -> str:
    if status == MEMORY:
        return "its process was killed, as the kernel does where memory has run out; make it smaller, or free memory"
    errors.seek(0)
    said = errors.read().decode(errors="replace").strip().splitlines() or ["without a word"]
    return f"its process ended with {status}: {said[-1].strip()}"
