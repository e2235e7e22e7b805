"""Versions, the live pointer and the history in the embedded store."""

import sqlite3
from collections.abc import Callable

import msgspec

from service.errors import UnknownVersion, VersionExists
from service.states import State, check_transition
from service.store.ports import HistoryEntry, Note, VersionEntry
from service.store.sqlite import Database, Row

COLUMNS = "version, state, created_at, architecture, recipe, parent, metrics, report"


class SqliteRegistryIndex:
    """A RegistryIndex in the embedded store's file; `clock` gives the history its epoch seconds."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock

    def add(self, entry: VersionEntry, *, note: Note) -> None:
        """Enter a new version. Raises VersionExists where it is known."""
        metrics = msgspec.json.encode(entry.metrics)
        described = (entry.created_at, entry.architecture, entry.recipe, entry.parent, metrics, entry.report)
        with self._database.writing() as connection:
            if _state(connection, entry.version) is not None:
                raise VersionExists(entry.version)
            row = (entry.version, entry.state, *described)
            connection.execute(f"INSERT INTO versions ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
            self._record(connection, (entry.version, None, entry.state), note)

    def get(self, version: str) -> VersionEntry | None:
        """The entry, None where there is none."""
        row = self._database.row(f"SELECT {COLUMNS} FROM versions WHERE version = ?", (version,))
        return _entry(row) if row else None

    def all(self) -> tuple[VersionEntry, ...]:
        """Every entry, oldest version first."""
        return tuple(_entry(row) for row in self._database.rows(f"SELECT {COLUMNS} FROM versions ORDER BY version"))

    def move(self, version: str, to: State, *, note: Note, report: str | None = None) -> None:
        """Move a version, and retire the former live one where it goes live, in one transaction."""
        with self._database.writing() as connection:
            was = _state(connection, version)
            if was is None:
                raise UnknownVersion(version)
            check_transition(version, was, to, force=note.force)
            if to is State.LIVE:
                self._retire_live(connection, Note(note.who, f"{version} took its place"))
            sql = "UPDATE versions SET state = ?, report = coalesce(?, report) WHERE version = ?"
            connection.execute(sql, (to, report, version))
            self._record(connection, (version, was, to), note)

    def live(self) -> str | None:
        """The version in state live, None before the first."""
        row = self._database.row("SELECT version FROM versions WHERE state = 'live'")
        return row[0] if row else None

    def history(self) -> tuple[HistoryEntry, ...]:
        """Every move, oldest first."""
        rows = self._database.rows("SELECT at, version, was, became, who, why, forced FROM history ORDER BY id")
        return tuple(_history_entry(row) for row in rows)

    def _retire_live(self, connection: sqlite3.Connection, note: Note) -> None:
        sql = "UPDATE versions SET state = ? WHERE state = ? RETURNING version"
        for (version,) in connection.execute(sql, (State.RETIRED, State.LIVE)).fetchall():
            self._record(connection, (version, State.LIVE, State.RETIRED), note)

    def _record(self, connection: sqlite3.Connection, move: tuple[str, State | None, State], note: Note) -> None:
        sql = "INSERT INTO history (at, version, was, became, who, why, forced) VALUES (?, ?, ?, ?, ?, ?, ?)"
        connection.execute(sql, (self._clock(), *move, note.who, note.why, note.force))


def _state(connection: sqlite3.Connection, version: str) -> State | None:
    row = connection.execute("SELECT state FROM versions WHERE version = ?", (version,)).fetchone()
    return State(row[0]) if row else None


def _entry(row: Row) -> VersionEntry:
    version, state, created_at, architecture, recipe, parent, metrics, report = row
    return VersionEntry(
        version=version,
        state=State(state),
        created_at=created_at,
        architecture=architecture,
        recipe=recipe,
        parent=parent,
        metrics=msgspec.json.decode(metrics, type=dict[str, float]),
        report=report,
    )


def _history_entry(row: Row) -> HistoryEntry:
    at, version, was, to, who, why, forced = row
    return HistoryEntry(at, version, State(was) if was else None, State(to), who, why, bool(forced))
