"""The training that a home has under way: one at a time, and gone on with after it was killed."""

import fcntl
import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from model.checkpoint import CheckpointError
from model.train_config import Diverged
from model.training import TrainConfig, Workspace
from service.errors import NothingToResume, TrainingUnderWay
from service.lifecycle import TrainOptions
from service.release import software_version

ASKED, LOCK, WORK = "asked.json", "lock", "work"
LEAST_EVERY_S, SHARE = 60.0, 0.05


class Due:
    """When the next checkpoint is: after a minute at least, and so seldom that they take a twentieth of the time."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock, self._every_s, self._last_s = clock, LEAST_EVERY_S, clock()
        self._was_due = False

    def __call__(self) -> bool:
        """Whether it is now; what passes from then to the next asking is what it took."""
        now = self._clock()
        self._last_s = min(self._last_s, now)  # a clock that was set back would else keep the next one away
        if self._was_due:
            self._every_s = max(LEAST_EVERY_S, (now - self._last_s) / SHARE)
            self._last_s = now
        self._was_due = not self._was_due and now - self._last_s >= self._every_s
        self._last_s = now if self._was_due else self._last_s
        return self._was_due


@dataclass(frozen=True)
class Unfinished:
    """The folder of the training under way, which this process holds."""

    folder: Path
    clock: Callable[[], float]
    say: Callable[[str], None]

    @property
    def asked(self) -> TrainOptions | None:
        """How the training that was broken off was asked for; None for none. Raises NothingToResume if unreadable."""
        try:
            told = json.loads((self.folder / ASKED).read_text(encoding="utf-8"))
            return TrainOptions(**{**told, "config": TrainConfig.model_validate(told["config"])})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            raise NothingToResume(self.folder) from error

    def begun(self, options: TrainOptions) -> Workspace:
        """Where a training that was just asked for works; one that was broken off before it is given up."""
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        aside = self.folder / f".{ASKED}"
        aside.write_text(json.dumps(_told(options), indent=1), encoding="utf-8")
        os.replace(aside, self.folder / ASKED)
        return self.workspace(resume=False)

    def workspace(self, *, resume: bool) -> Workspace:
        """Where the training works."""
        return Workspace(self.folder / WORK, Due(self.clock), resume, self.say, software_version())

    @contextmanager
    def under_way(self, work: Workspace | None) -> Iterator[None]:
        """While the training runs. What it needed is removed once it is done, or has failed and cannot be gone on with.

        Else how to go on is said, where the error does not say it.
        """
        with ExitStack() as stack:
            stack.push(lambda kind, error, trace: self._ended(error, work))
            yield

    def _ended(self, error: BaseException | None, work: Workspace | None) -> None:
        if error is None or _is_lost(error, work):
            self.done()
        elif not isinstance(error, CheckpointError):
            self.say(f"what was done is kept in {self.folder}; `appshelf train --resume` goes on with it")

    def done(self) -> None:
        """Remove what the training needed: first how it was asked for, so that it is never gone on with half there."""
        (self.folder / ASKED).unlink(missing_ok=True)
        shutil.rmtree(self.folder / WORK, ignore_errors=True)


@contextmanager
def unfinished(folder: Path, *, clock: Callable[[], float], say: Callable[[str], None]) -> Iterator[Unfinished]:
    """Hold the folder for this process, however that ends. Raises TrainingUnderWay where another holds it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o600), "r+", encoding="ascii") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise TrainingUnderWay(folder, holder=lock.read().strip() or "of unknown id") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield Unfinished(folder, clock, say)


def _is_lost(error: BaseException, work: Workspace | None) -> bool:
    """Whether nothing of a training that ended so is of use: it would end so again, or has kept no checkpoint yet.

    One that was told to end, or was gone on with and has not come as far, is kept all the same: its rows are encoded.
    """
    if work is None or isinstance(error, Diverged):
        return True
    told = isinstance(error, CheckpointError) or not isinstance(error, Exception)
    return not (told or work.resume or work.holds_checkpoint)


def _told(options: TrainOptions) -> dict[str, Any]:
    return {
        "config": options.config.model_dump(mode="json"),
        "start_from": options.start_from,
        "optimizer": options.optimizer,
        "compact": options.compact,
    }
