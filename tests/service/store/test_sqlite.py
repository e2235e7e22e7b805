"""What only the embedded store has: a file, its layout, its locks, and processes that are killed."""

import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from service.errors import StoreTooNew, StoreUnavailable
from service.states import State
from service.store.ports import UserRecord
from service.store.sqlite import Database, Row
from service.store.sqlite_features import SqliteFeatureStore
from service.store.sqlite_layout import LAYOUT
from service.store.sqlite_registry import SqliteRegistryIndex
from tests.service.clock import Clock
from tests.service.store.entries import NEW, NOTE, OLD, entry

OPENED = "import sys; from pathlib import Path; from service.store.sqlite import Database; Database(Path(sys.argv[1]))"

PROMOTED_AND_KILLED = """
import os, signal, sys
from pathlib import Path
from service.states import State
from service.store.ports import Note
from service.store.sqlite import Database
from service.store.sqlite_registry import SqliteRegistryIndex

path, version, left = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])

def kill_at_the_last(statement):
    global left
    if left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    left -= 1

database = Database(path)
with database.writing() as connection:
    pass
connection.set_trace_callback(kill_at_the_last)
SqliteRegistryIndex(database, lambda: 0.0).move(version, State.LIVE, note=Note("ana", "a test"))
"""
STATEMENTS = 7  # BEGIN, read the state, retire, its history, go live, its history, COMMIT


def test_what_was_put_is_there_when_the_file_is_opened_again(tmp_path: Path) -> None:
    first = Database(tmp_path / "store.sqlite")
    SqliteFeatureStore(first).put_users([UserRecord("u1", {"country": "PT"})])
    first.close()

    again = SqliteFeatureStore(Database(tmp_path / "store.sqlite"))

    assert again.get_user("u1") == UserRecord("u1", {"country": "PT"})


@pytest.mark.parametrize("statements", range(STATEMENTS + 1))
def test_a_kill_within_a_promote_leaves_the_old_state_or_the_new(tmp_path: Path, statements: int) -> None:
    path = tmp_path / "store.sqlite"
    index = SqliteRegistryIndex(Database(path), Clock())
    index.add(entry(OLD, State.LIVE), note=NOTE)
    index.add(entry(NEW, State.PASSED), note=NOTE)

    subprocess.run([sys.executable, "-c", PROMOTED_AND_KILLED, str(path), NEW, str(statements)], check=False)

    done = statements == STATEMENTS
    assert index.live() == (NEW if done else OLD)
    assert [known.state for known in index.all()] == (
        [State.RETIRED, State.LIVE] if done else [State.LIVE, State.PASSED]
    )
    assert len(index.history()) == (4 if done else 2)


def test_processes_that_open_a_new_file_at_once_all_find_its_tables(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"

    opened = [subprocess.Popen([sys.executable, "-c", OPENED, str(path)]) for _ in range(4)]

    assert [process.wait() for process in opened] == [0, 0, 0, 0]
    assert SqliteFeatureStore(Database(path)).get_user("u1") is None


def test_a_reader_does_not_wait_for_a_writer(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite", busy_timeout_s=0)
    store = SqliteFeatureStore(database)
    store.put_users([UserRecord("u1", {"country": "PT"})])

    with database.writing() as connection:
        connection.execute("DELETE FROM users")

        assert store.get_user("u1") == UserRecord("u1", {"country": "PT"})


def test_a_writer_that_waits_too_long_says_so(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite", busy_timeout_s=0)
    store = SqliteFeatureStore(database)

    with database.writing(), pytest.raises(StoreUnavailable, match="database is locked"):
        store.put_users([UserRecord("u1")])

    store.put_users([UserRecord("u1")])
    assert store.get_user("u1") == UserRecord("u1")


def test_a_full_disk_loses_nothing_that_was_there(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite")
    store = SqliteFeatureStore(database)
    store.put_users([UserRecord("u1")])
    database.row("PRAGMA max_page_count = 1")  # the least that it allows is what there is

    with pytest.raises(StoreUnavailable, match="full"):
        store.put_users(UserRecord(f"v{number}", {"text": "x" * 5000}) for number in range(100))

    assert store.get_user("u1") == UserRecord("u1")
    assert store.get_user("v0") is None


def test_a_file_that_is_not_a_store_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(b"a text of some length, which is not a database at all" * 100)

    with pytest.raises(StoreUnavailable, match=r"store\.sqlite is not available \(file is not a database\)"):
        Database(path)


def test_a_folder_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(StoreUnavailable, match="No such file or directory"):
        Database(tmp_path / "gone" / "store.sqlite")


def test_a_file_of_a_later_release_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    Database(path).close()
    later = sqlite3.connect(path)
    later.execute("PRAGMA user_version = 99")
    later.close()

    with pytest.raises(StoreTooNew, match=f"layout 99 where this release knows {len(LAYOUT)}"):
        Database(path)


def counted(database: Database, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The queries that the database is asked from now on."""
    asked, rows = list[str](), database.rows

    def counting(sql: str, parameters: Sequence[object] = ()) -> list[Row]:
        asked.append(sql)
        return rows(sql, parameters)

    monkeypatch.setattr(database, "rows", counting)
    return asked


def test_users_are_read_once_while_nothing_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = Database(tmp_path / "store.sqlite")
    store = SqliteFeatureStore(database)
    store.put_users([UserRecord("u1", {"country": "PT"}), UserRecord("u2")])
    asked = counted(database, monkeypatch)
    first = store.get_users(["u1", "nobody"])
    assert store.get_users(["nobody", "u1", "u1"]) == (None, first[0], first[0])
    assert len(asked) == 1
    assert store.get_users(["u2", "u1"])[0] == UserRecord("u2")
    assert len(asked) == 2


@pytest.mark.parametrize("where", ["here", "in another process"])
def test_a_user_that_is_written_is_read_anew_whoever_wrote(tmp_path: Path, where: str) -> None:
    path = tmp_path / "store.sqlite"
    store = SqliteFeatureStore(Database(path))
    writer = store if where == "here" else SqliteFeatureStore(Database(path))
    for country in ("PT", "BR", "DE"):
        writer.put_users([UserRecord("u1", {"country": country})])
        assert store.get_user("u1") == UserRecord("u1", {"country": country})
    writer.delete_user("u1")
    assert store.get_user("u1") is None


def test_a_state_stands_until_a_transaction_is_committed(tmp_path: Path) -> None:
    database = Database(tmp_path / "store.sqlite")
    before = database.state()
    assert database.state() == before
    with database.writing() as connection:
        connection.execute("INSERT INTO users (id, features, history) VALUES ('u1', '{}', '{}')")
        assert database.state() == before
    after = database.state()
    assert after != before
    database.close()
    assert database.state() not in (before, after)
