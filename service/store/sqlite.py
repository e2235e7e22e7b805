"""The embedded store's file: a pool of connections, transactions that survive a kill, and the layout of its tables."""

import fcntl
import sqlite3
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import Lock
from typing import Any

from service.errors import StoreTooNew, StoreUnavailable
from service.store.sqlite_layout import LAYOUT

Row = tuple[Any, ...]
Layout = tuple[tuple[str, ...], ...]


class Database:
    """One SQLite file in WAL mode, for any number of threads and processes; a writer never blocks a reader.

    layout: the steps that make the file's tables, each from one layout number to the next. Raises StoreUnavailable
    where the file cannot be used, StoreTooNew where a later release made it.
    """

    def __init__(self, path: Path, *, layout: Layout = LAYOUT, busy_timeout_s: float = 5.0) -> None:
        self._path = path
        self._layout = layout
        self._busy_timeout_s = busy_timeout_s
        self._idle: deque[sqlite3.Connection] = deque()
        self._watch: sqlite3.Connection | None = None
        self._watches = 0
        self._watching = Lock()
        self._lay_out()

    def rows(self, sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        """The rows of one query, read from one consistent state of the file."""
        with self._connection() as connection:
            return connection.execute(sql, parameters).fetchall()

    def row(self, sql: str, parameters: Sequence[object] = ()) -> Row | None:
        """The first row of one query, None where there is none."""
        rows = self.rows(sql, parameters)
        return rows[0] if rows else None

    def state(self) -> tuple[int, int]:
        """What differs from one call to the next wherever a transaction was committed between, by any process.

        A connection that never writes is told so by SQLite without reading a page; a new one counts anew.
        """
        with self._watching, self._unavailable(), ExitStack() as undo:
            undo.callback(self._unwatch)
            if self._watch is None:
                self._watch, self._watches = self._connect(), self._watches + 1
            version = int(self._watch.execute("PRAGMA data_version").fetchone()[0])
            undo.pop_all()
            return self._watches, version

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction: on disk when the block ends, never begun when it raises or the process is killed."""
        with self._connection() as connection:
            connection.execute("BEGIN IMMEDIATE")
            yield connection
            connection.execute("COMMIT")

    def close(self) -> None:
        """Close every idle connection."""
        with suppress(IndexError):
            while True:
                self._idle.pop().close()
        with self._watching:
            self._unwatch()

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone; an error closes it, which rolls back what it had begun."""
        with self._unavailable():
            connection = self._take()
            with ExitStack() as undo:
                undo.callback(connection.close)
                yield connection
                undo.pop_all()
            self._idle.append(connection)

    def _unwatch(self) -> None:
        if self._watch is not None:
            self._watch.close()
            self._watch = None

    @contextmanager
    def _unavailable(self) -> Iterator[None]:
        """Raise StoreUnavailable where the file is at fault."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            # Its subclasses other than OperationalError tell of a mistake in our SQL, not of the file.
            if type(error) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
                raise
            raise StoreUnavailable(str(self._path), str(error)) from error

    def _take(self) -> sqlite3.Connection:
        try:
            return self._idle.pop()
        except IndexError:
            return self._connect()

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self._path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA synchronous = FULL")
        return connection

    def _lay_out(self) -> None:
        """Bring the file to WAL mode, which it keeps, and to the newest layout."""
        with self._one_process_at_a_time():
            self.rows("PRAGMA journal_mode = WAL")
            self._upgrade()

    @contextmanager
    def _one_process_at_a_time(self) -> Iterator[None]:
        """Two processes that bring one file to WAL mode refuse each other at once, whatever the busy timeout."""
        lock = self._path.with_name(f".{self._path.name}.lock")
        try:
            with open(lock, "a", encoding="ascii") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                yield
        except OSError as error:
            raise StoreUnavailable(str(self._path), error.strerror or str(error)) from error

    def _upgrade(self) -> None:
        with self.writing() as connection:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found > len(self._layout):
                raise StoreTooNew(str(self._path), found=found, known=len(self._layout))
            for step in self._layout[found:]:
                for statement in step:
                    connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {len(self._layout)}")
