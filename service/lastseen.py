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
from service.store.ports import AppChanges, AppRecord

FORMAT = 2

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Mark:
    """Which state of the catalogue a copy leads to; see AppChanges for origin and sequence.

    apps: how many were put; since: the state that it leads there from, 0 where it is the whole catalogue; deleted:
    which apps are gone since.
    """

    origin: str
    sequence: int
    apps: int
    since: int = 0
    deleted: tuple[str, ...] = ()
    format: int = FORMAT

    def covers(self, *, origin: str, sequence: int) -> bool:
        """True where the copy can be read and is as new as this, or newer."""
        return self.format == FORMAT and self.origin == origin and self.sequence >= sequence

    def replaces(self, *, origin: str, sequence: int) -> bool:
        """True where the copy is a whole catalogue no older than this state.

        That of another store is no older: whole ones are written once that store has taken the place of a former one.
        """
        whole = self.format == FORMAT and not self.since
        return whole and (self.origin != origin or self.sequence >= sequence)

    def goes_on(self, *, origin: str, sequence: int) -> bool:
        """True where the copy goes on from this state."""
        return self.origin == origin and self.since == sequence


class CatalogueCopy:
    """Changes of the catalogue in a file of JSON lines, a Mark and then an app a line.

    They are all of the catalogue, or what changed since the state that a mapped table holds. The file is written whole,
    by any number of processes.
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

    def write(self, changes: AppChanges, *, since: int = 0) -> None:
        """Replace the file; a record at a time, so that rankings go on beside it. Raises OSError."""
        deleted = changes.deleted if since else ()
        mark = Mark(changes.origin, changes.sequence, len(changes.put), since, deleted)
        write_whole(self._path, (self._encode(line) + b"\n" for line in (mark, *changes.put)))

    def changes(self, *, since: int) -> AppChanges:
        """All of the copy. Raises StoreUnavailable where there is none from there on that can be read whole."""
        try:
            with self._path.open("rb") as file:
                mark = self._mark(file.readline())
                apps = tuple(self._app(line) for line in file)
        except OSError as error:
            raise StoreUnavailable(f"copy {self._path}", error.strerror or str(error)) from error
        except msgspec.MsgspecError as error:
            raise StoreUnavailable(f"copy {self._path}", str(error)) from error
        if (mark.format, mark.apps, mark.since) != (FORMAT, len(apps), since):
            observed = f"{len(apps)} of {mark.apps} apps since {mark.since} in format {mark.format}"
            raise StoreUnavailable(f"copy {self._path}", f"{observed}, where those since {since} are wanted")
        return AppChanges(mark.sequence, apps, mark.deleted, mark.origin)


class LastSeen:
    """The live version as it was seen last.

    pointer: the file that names it; prepare: makes a version ready without the store.
    """

    def __init__(self, pointer: Path, *, prepare: Callable[[str], Live]) -> None:
        self._pointer = pointer
        self._prepare = prepare

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

        Raises StoreUnavailable where nothing here tells of the catalogue, BundleError, DryRunFailed.
        """
        try:
            version = check_version(self._pointer.read_text(encoding="ascii").strip())
        except (FileNotFoundError, UnicodeDecodeError):
            return None
        return self._prepare(version)


def write_whole(path: Path, chunks: Iterable[bytes]) -> None:
    """Put a file in the place of another in one step; whoever reads finds the old or the new. Raises OSError."""
    aside = path.with_name(f".{path.name}.partial")
    with path.with_name(f".{path.name}.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # so that what a killed process left is written over, and by one at a time
        try:
            with aside.open("wb") as file:
                file.writelines(chunks)
                file.flush()
                os.fsync(file.fileno())
            os.replace(aside, path)
        finally:
            aside.unlink(missing_ok=True)  # on a full disk, what could be written of it
