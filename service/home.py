"""The home folder: where the embedded store, the bundles and the data lie, and the lock of the one server on it."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from service.errors import HomeInUse, HomeUnusable


@dataclass(frozen=True)
class Home:
    """The paths below one home folder; nothing is made before `ensure`."""

    root: Path

    @property
    def bundles(self) -> Path:
        """The folder of bundles, one folder a version."""
        return self.root / "bundles"

    @property
    def data(self) -> Path:
        """The folder of the imported dataset."""
        return self.root / "data"

    @property
    def store(self) -> Path:
        """The embedded store's file."""
        return self.root / "store.sqlite"

    @property
    def log(self) -> Path:
        """The embedded log's file, apart from the store's, so that neither waits for the other."""
        return self.root / "log.sqlite"

    @property
    def queue(self) -> Path:
        """The embedded job queue's file."""
        return self.root / "queue.sqlite"

    @property
    def jobs(self) -> Path:
        """The folder of what jobs are working on, a folder a job."""
        return self.root / "jobs"

    @property
    def pointer(self) -> Path:
        """The file that names the last live version seen, for a start while the store is away."""
        return self.root / "live.version"

    @property
    def catalogue(self) -> Path:
        """The file of the last catalogue seen, for a start while the store is away."""
        return self.root / "catalogue.jsonl"

    @property
    def tables(self) -> Path:
        """The folder of app tables, one folder a table, which every worker maps."""
        return self.root / "tables"

    @property
    def comparisons(self) -> Path:
        """The folder of what `appshelf compare` has trained and found."""
        return self.root / "comparisons"

    @property
    def studies(self) -> Path:
        """The folder of the studies of `appshelf tune`, a file a study."""
        return self.root / "studies"

    @property
    def shards(self) -> Path:
        """The folder of the dataset encoded and cut into shards, for a training on several processes."""
        return self.root / "shards"

    @property
    def training(self) -> Path:
        """The folder of the training under way: its encoded rows and its checkpoints."""
        return self.root / "training"

    @property
    def runs(self) -> Path:
        """The folder of the checkpoints of trainings on several processes, which all of them reach."""
        return self.root / "runs"

    @property
    def reports(self) -> Path:
        """The folder of reports on imports."""
        return self.root / "reports"

    @property
    def admin_key_file(self) -> Path:
        """The file of the admin key that was made at the first start."""
        return self.root / "admin.key"

    @property
    def serve_lock(self) -> Path:
        """The file that the one server on this home holds locked."""
        return self.root / "serve.lock"

    def ensure(self) -> None:
        """Make the folders that are not there. Raises HomeUnusable where that cannot be done."""
        try:
            for folder in (self.root, self.bundles, self.reports):
                folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise HomeUnusable(self.root, error.strerror or str(error)) from error


@contextmanager
def exclusive(lock: Path) -> Iterator[None]:
    """Hold `lock` for this process; its file names the holder. Raises HomeInUse where another holds it, HomeUnusable.

    The kernel drops the lock with its process, so a killed server leaves none behind.
    """
    with open(_opened(lock), "r+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise HomeInUse(lock.parent, holder=file.read().strip() or "of unknown id") from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _opened(lock: Path) -> int:
    try:
        return os.open(lock, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise HomeUnusable(lock.parent, f"{lock.name}: {error.strerror}") from error
