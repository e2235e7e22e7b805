"""The app tables of this machine: a folder each, built by a process of its own and mapped by every worker."""

import fcntl
import logging
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from zlib import crc32

from model.array_folder import ArraysUnusable
from model.scorer import Scorer
from service.apart import Apart, Interrupted, last_words
from service.errors import ServiceError, TableUnbuilt
from service.table_files import StoredTable, open_stored, version_of

LOOK_EVERY_S = 0.05
LOCKS = 8
"""Builds of two versions may go on at once; those of one version, and now and then of two, take turns."""

EAGER = ("--eager", "--rest", "0")

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TableParts:
    """What tables are built with.

    bundle: finds a version's folder; needed: the versions whose tables stay even where no process uses them; in_use:
    those that some process serves or prepares; environ: in which the builder finds the store; within_s: how long a
    build may take; interrupted: true from the moment that this process is to end; wait: passes so many seconds.
    """

    bundle: Callable[[str], Path]
    needed: Callable[[], AbstractSet[str]]
    in_use: Callable[[], AbstractSet[str]]
    environ: Mapping[str, str]
    within_s: float
    interrupted: Callable[[], bool]
    wait: Callable[[float], None]


class Tables:
    """The tables in a folder, for any number of processes of the machine."""

    def __init__(self, folder: Path, parts: TableParts) -> None:
        self._folder = folder
        self._parts = parts

    def newest(self, scorer: Scorer) -> StoredTable | None:
        """The version's newest table that can be used, mapped; None where there is none."""
        for folder in self._of(scorer.version):
            try:
                return open_stored(folder, scorer)
            except ArraysUnusable as error:
                log.warning("an app table of version %s cannot be used and is built anew: %s", scorer.version, error)
        return None

    def build(self, scorer: Scorer, suits: Callable[[StoredTable], bool]) -> StoredTable:
        """A table of the version that suits, built unless another process did so while this one waited for its turn.

        Raises TableUnbuilt, StoreUnavailable.
        """
        try:
            with self._turn(scorer.version) as lock:
                table = self.newest(scorer)
                if table is None or not suits(table):
                    self._clear(scorer.version)
                    self._date_back(scorer.version, lock)
                    self._run_builder(scorer.version, lock)
                    table = self.newest(scorer)
        except Interrupted as error:
            raise TableUnbuilt(scorer.version, "this process is to end", ending=True) from error
        except OSError as error:
            raise TableUnbuilt(scorer.version, error.strerror or str(error)) from error
        self.sweep(serving=scorer.version)
        if table is None:
            raise TableUnbuilt(scorer.version, "what was built cannot be used")
        return table

    def sweep(self, *, serving: str) -> list[str]:
        """Remove every table but the newest of each version that is needed, and what killed builders left; its names.

        Needed are this version and what is live, its parent, may be gone back to, or is served or prepared by any
        process. Who has mapped a removed table goes on with it.
        """
        try:
            needed = self._parts.needed() | self._parts.in_use() | {serving}
        except ServiceError as error:
            log.warning("old app tables stay until the next time: %s", error)
            return []
        kept = {folder for version in needed for folder in self._of(version)[:1]}
        with suppress(OSError):
            found = [one for one in self._folder.iterdir() if one.is_dir() and one not in kept]
            return [folder.name for folder in found if self._removed(folder)]
        return []

    def _of(self, version: str) -> list[Path]:
        """The folders of a version's tables, the one built last first."""
        folders: list[tuple[int, Path]] = []
        for folder in self._folder.glob(f"{version}-*"):
            with suppress(OSError):
                folders.append((folder.stat().st_mtime_ns, folder))
        return [folder for _, folder in sorted(folders, reverse=True)]

    def _clear(self, version: str) -> None:
        """Remove what killed builders left of a version; who holds its lock knows that none is at work."""
        for folder in self._folder.glob(f".{version}-*.partial"):
            shutil.rmtree(folder, ignore_errors=True)

    def _date_back(self, version: str, lock: int) -> None:
        """Let no table of a version be younger than this moment, where the clock was set back since it was built.

        Else the next one would not be its newest, and it is that which stays.
        """
        os.utime(lock)
        now = os.fstat(lock).st_mtime_ns
        for folder in self._of(version):
            if folder.stat().st_mtime_ns > now:
                os.utime(folder, ns=(now, now))

    def _run_builder(self, version: str, lock: int) -> None:
        """Let a process of its own build the table; it holds the lock too, so that it is held until both have ended.

        Where nobody serves yet, as at a first start, it need not step back.
        """
        parts = self._parts
        apart = Apart(parts.within_s, parts.interrupted, parts.environ, shared=(lock,))
        log.info("the app table of version %s is built", version)
        folders = ["--bundle", str(parts.bundle(version).absolute()), "--tables", str(self._folder.absolute())]
        try:
            ended = apart.run("service.table_builder", [*folders, *(() if parts.in_use() else EAGER)])
        except subprocess.TimeoutExpired as error:
            raise TableUnbuilt(version, f"no end within {parts.within_s:g} s") from error
        if ended.returncode:
            raise TableUnbuilt(version, f"its process ended with {ended.returncode}: {last_words(ended)}")

    @contextmanager
    def _turn(self, version: str, *, patient: bool = True) -> Iterator[int]:
        """Hold the lock of the version's tables, the open file's descriptor. Raises Interrupted, BlockingIOError."""
        self._folder.mkdir(parents=True, exist_ok=True)
        with (self._folder / f".lock-{crc32(version.encode()) % LOCKS}").open("ab") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if not patient:
                        raise
                if self._parts.interrupted():
                    raise Interrupted
                self._parts.wait(LOOK_EVERY_S)
            yield file.fileno()

    def _removed(self, folder: Path) -> bool:
        """Remove a folder unless someone builds its version now. A killed removal leaves only a partial one."""
        with suppress(OSError), self._turn(version_of(folder), patient=False):
            doomed = folder.with_name(f".{folder.name.strip('.').removesuffix('.partial')}.partial")
            if folder != doomed:
                shutil.rmtree(doomed, ignore_errors=True)
                folder.rename(doomed)
            shutil.rmtree(doomed)
            return True
        return False
