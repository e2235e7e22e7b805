"""What this machine saw of the store last, on its own disk: enough to start and to serve while the store is away."""

import fcntl
import logging
import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from model.manifest import check_version
from service.engine import Live
from service.errors import StoreUnavailable
from service.preparation import prepare
from service.store.ports import AppChanges, AppRecord

FORMAT = 1

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """Which state of the catalogue a copy holds; see AppChanges for origin and sequence. apps: how many there are."""

    origin: str
    sequence: int
    apps: int
    format: int = FORMAT

    def covers(self, *, origin: str, sequence: int) -> bool:
        """True where the copy is as new as this, or newer."""
        return self.origin == origin and self.sequence >= sequence


class CatalogueCopy:
    """The catalogue in a file of JSON lines, a Mark and then an app a line; written whole, by any number of processes.

    It stands in for a store where a version is prepared: it has the `apps_since` that this takes.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._encode = msgspec.json.Encoder().encode
        self._mark = msgspec.json.Decoder(Mark).decode
        self._app = msgspec.json.Decoder(AppRecord).decode

    @property
    def mark(self) -> Mark | None:
        """What the file holds, None where there is none that can be read."""
        with suppress(OSError, msgspec.MsgspecError), self._path.open("rb") as file:
            return self._mark(file.readline())
        return None

    def write(self, catalogue: AppChanges) -> None:
        """Replace the file; a record at a time, so that rankings go on beside it. Raises OSError."""
        mark = Mark(catalogue.origin, catalogue.sequence, len(catalogue.put))
        write_whole(self._path, (self._encode(line) + b"\n" for line in (mark, *catalogue.put)))

    def apps_since(self, sequence: int) -> AppChanges:
        """All of the copy; `sequence` is 0. Raises StoreUnavailable where there is none that can be read whole."""
        try:
            with self._path.open("rb") as file:
                mark = self._mark(file.readline())
                apps = tuple(self._app(line) for line in file)
        except OSError as error:
            raise StoreUnavailable(f"copy {self._path}", error.strerror or str(error)) from error
        except msgspec.MsgspecError as error:
            raise StoreUnavailable(f"copy {self._path}", str(error)) from error
        if (mark.format, mark.apps, sequence) != (FORMAT, len(apps), 0):
            raise StoreUnavailable(f"copy {self._path}", f"{len(apps)} apps of format {mark.format} under {mark}")
        return AppChanges(mark.sequence, apps, (), mark.origin)


class LastSeen:
    """The live version and the catalogue as they were seen last.

    pointer: the file that names the version; folder: finds a version's bundle without the store.
    """

    def __init__(self, pointer: Path, catalogue: CatalogueCopy, *, folder: Callable[[str], Path]) -> None:
        self._pointer = pointer
        self._catalogue = catalogue
        self._folder = folder

    def remember(self, version: str) -> None:
        """Keep the version that is served now; a disk that does not take it is logged and no more."""
        with suppress(OSError):
            if self._pointer.read_text(encoding="ascii").strip() == version:
                return
        try:
            write_whole(self._pointer, [f"{version}\n".encode()])
        except OSError as error:
            log.warning("the live version could not be kept for a start without the store: %s", error)

    def prepare(self) -> Live | None:
        """The version served last, made ready from local files alone; None where none was kept.

        Raises StoreUnavailable where there is no copy of the catalogue, BundleError, DryRunFailed.
        """
        try:
            version = check_version(self._pointer.read_text(encoding="ascii").strip())
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return prepare(self._folder(version), self._catalogue)


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Put a file in the place of another in one step; whoever reads finds the old or the new. Raises OSError."""
    aside = path.with_name(f".{path.name}.partial")
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # so that what a killed process left is written over, and by one at a time
        with aside.open("wb") as file:
            file.writelines(chunks)
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
