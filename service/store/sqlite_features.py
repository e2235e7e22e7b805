"""Users and apps in the embedded store."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from threading import Lock

import msgspec

from service.store.histories import by_user, changed
from service.store.ports import AppChanges, AppPages, AppRecord, HistoryChange, UserRecord
from service.store.sqlite import Database, Row

Features = dict[str, str | int | float | bool | list[str] | None]

PUT_USER = """
INSERT INTO users (id, features, history) VALUES (?, ?, ?)
ON CONFLICT (id) DO UPDATE SET features = excluded.features, history = excluded.history"""

# The WHERE keeps an unchanged app at its sequence, so that putting a whole catalogue again costs the servers nothing.
PUT_APP = """
INSERT INTO apps (id, sequence, deleted, features, available, countries) VALUES (?, ?, 0, ?, ?, ?)
ON CONFLICT (id) DO UPDATE SET sequence = excluded.sequence, deleted = 0, features = excluded.features,
    available = excluded.available, countries = excluded.countries
WHERE apps.deleted OR apps.features <> excluded.features
    OR apps.available <> excluded.available OR apps.countries <> excluded.countries"""

GET_USERS = "SELECT id, features, history FROM users WHERE id IN"
GET_HISTORY = "SELECT history FROM users WHERE id = ?"
PUT_HISTORY = """
INSERT INTO users (id, features, history) VALUES (?, '{}', ?)
ON CONFLICT (id) DO UPDATE SET history = excluded.history"""
PAGE = 1_000
KEPT_USERS = 10_000

APP_COLUMNS = "id, features, available, countries"
LAST_SEQUENCE = "SELECT coalesce(max(sequence), 0) FROM apps"
DELETE_APP = f"""
UPDATE apps SET deleted = 1, features = '{{}}', sequence = ({LAST_SEQUENCE}) + 1
WHERE id = ? AND NOT deleted"""


class KeptUsers:
    """Users as one state of the file has them, those read since it came about; for any number of threads."""

    def __init__(self) -> None:
        self._keeping = Lock()
        self._state: object = None
        self._users: dict[str, UserRecord | None] = {}

    def of(self, state: object, user_ids: Iterable[str]) -> dict[str, UserRecord | None]:
        """Those of these users that are known in this state."""
        users = self._users if self._state == state else {}
        return {user_id: users[user_id] for user_id in user_ids if user_id in users}

    def keep(self, state: object, users: Mapping[str, UserRecord | None]) -> None:
        """Keep users read in this state, or after it."""
        with self._keeping:
            if self._state != state or len(self._users) + len(users) > KEPT_USERS:
                self._users = {}  # whoever looks into the former one may go on doing so
            self._users.update(users)
            self._state = state


class SqliteFeatureStore:
    """A FeatureStore in the embedded store's file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._origin = str(database.rows("SELECT name FROM catalogue_origin")[0][0])
        self._encode = msgspec.json.Encoder().encode
        self._encode_sorted = msgspec.json.Encoder(order="sorted").encode
        self._features = msgspec.json.Decoder(Features).decode
        self._history = msgspec.json.Decoder(dict[str, int]).decode
        self._countries = msgspec.json.Decoder(tuple[str, ...]).decode
        self._kept = KeptUsers()

    def put_users(self, records: Iterable[UserRecord]) -> None:
        """Insert or replace users in one transaction."""
        rows = ((user.id, self._encode(user.features), self._encode(user.history)) for user in records)
        with self._database.writing() as connection:
            connection.executemany(PUT_USER, rows)

    def get_user(self, user_id: str) -> UserRecord | None:
        """The user, None where there is none."""
        return self.get_users((user_id,))[0]

    def get_users(self, user_ids: Sequence[str]) -> tuple[UserRecord | None, ...]:
        """Each user, None where there is none; up to a page of them from one state of the file.

        Those read last are not read again until something was written; nobody may change what they are given.
        """
        state = self._database.state()  # before what is read: that may be newer, and is then read again
        found = self._kept.of(state, user_ids)
        wanted = [user_id for user_id in user_ids if user_id not in found]
        for start in range(0, len(wanted), PAGE):
            asked = wanted[start : start + PAGE]
            fresh = dict[str, UserRecord | None].fromkeys(asked)
            for user_id, features, history in self._database.rows(
                f"{GET_USERS} ({', '.join('?' * len(asked))})", asked
            ):
                fresh[user_id] = UserRecord(user_id, self._features(features), self._history(history))
            self._kept.keep(state, fresh)
            found |= fresh
        return tuple([found[user_id] for user_id in user_ids])

    def delete_user(self, user_id: str) -> bool:
        """Forget the user; False where there was none."""
        with self._database.writing() as connection:
            return connection.execute("DELETE FROM users WHERE id = ?", (user_id,)).rowcount > 0

    def change_history(self, changes: Iterable[HistoryChange]) -> None:
        """Put apps into users' histories or take them out, in one transaction."""
        asked = by_user(changes)
        with self._database.writing() as connection:
            for user_id, of_user in asked.items():
                before = self._history_of(connection, user_id)
                after = changed(before, of_user)
                if after != before:
                    connection.execute(PUT_HISTORY, (user_id, self._encode(after)))

    def users(self) -> Iterator[UserRecord]:
        """Every user, a page at a time."""
        sql, last = "SELECT rowid, id, features, history FROM users WHERE rowid > ? ORDER BY rowid LIMIT ?", 0
        while rows := self._database.rows(sql, (last, PAGE)):
            for _, user_id, features, history in rows:
                yield UserRecord(user_id, self._features(features), self._history(history))
            last = rows[-1][0]

    def put_apps(self, records: Iterable[AppRecord]) -> int:
        """Insert or replace apps in one transaction, all changed ones under one new sequence number."""
        with self._database.writing() as connection:
            following = connection.execute(LAST_SEQUENCE).fetchone()[0] + 1
            connection.executemany(PUT_APP, (self._app_row(app, following) for app in records))
            return int(connection.execute(LAST_SEQUENCE).fetchone()[0])

    def get_app(self, app_id: str) -> AppRecord | None:
        """The app, None where there is none or it was deleted."""
        row = self._database.row(f"SELECT {APP_COLUMNS} FROM apps WHERE id = ? AND NOT deleted", (app_id,))
        return self._app(row) if row else None

    def delete_app(self, app_id: str) -> bool:
        """Turn the app into a tombstone under a new sequence number; False where there was none."""
        with self._database.writing() as connection:
            return connection.execute(DELETE_APP, (app_id,)).rowcount > 0

    def apps_since(self, sequence: int) -> AppChanges:
        """What changed after `sequence`, in order of change."""
        columns = f"sequence, deleted, {APP_COLUMNS}"
        rows = self._database.rows(
            f"SELECT {columns} FROM apps WHERE sequence > ? ORDER BY sequence",
            (sequence,),
        )
        return AppChanges(
            sequence=rows[-1][0] if rows else min(sequence, self._newest()),
            put=tuple(self._app(row[2:]) for row in rows if not row[1]),
            deleted=tuple(row[2] for row in rows if row[1]),
            origin=self._origin,
        )

    def app_pages(self) -> AppPages:
        """The whole catalogue, a page at a time; no reading lasts, so that the file's log does not grow for it."""
        sequence = self._newest()
        count, last = self._database.rows("SELECT count(*), coalesce(max(rowid), 0) FROM apps")[0]
        return AppPages(sequence, count, self._pages(last), self._origin)

    def ping(self) -> None:
        """Read from the file."""
        self._database.row("SELECT id FROM users LIMIT 1")

    def _pages(self, last: int) -> Iterator[Sequence[AppRecord]]:
        """The apps up to this row; what is added meanwhile would keep a reader busy for ever."""
        sql = f"SELECT rowid, deleted, {APP_COLUMNS} FROM apps WHERE rowid > ? AND rowid <= ? ORDER BY rowid LIMIT ?"
        after = 0
        while rows := self._database.rows(sql, (after, last, PAGE)):
            yield [self._app(row[2:]) for row in rows if not row[1]]
            after = rows[-1][0]

    def _newest(self) -> int:
        row = self._database.row(LAST_SEQUENCE)
        return int(row[0]) if row else 0

    def _history_of(self, connection: sqlite3.Connection, user_id: str) -> dict[str, int]:
        row = connection.execute(GET_HISTORY, (user_id,)).fetchone()
        return self._history(row[0]) if row else {}

    def _app_row(self, app: AppRecord, sequence: int) -> Row:
        features, countries = self._encode_sorted(app.features), self._encode(app.countries)
        return app.id, sequence, features, app.available, countries

    def _app(self, row: Row) -> AppRecord:
        app_id, features, available, countries = row
        return AppRecord(app_id, self._features(features), bool(available), self._countries(countries))
