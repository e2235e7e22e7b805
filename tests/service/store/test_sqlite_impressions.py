"""Impressions in the embedded log: an app's values are kept once, as long as an impression may hold them."""

from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from model.query import Value
from service.store.log_ports import Impression, LogCounts, Shown
from service.store.packed_values import Packed, packed
from service.store.sqlite import Database
from service.store.sqlite_impressions import KEPT_ON_S
from service.store.sqlite_log import SqliteEventLog
from service.store.sqlite_log_layout import LOG_LAYOUT

VALUES: dict[str, Value] = {"rating": 4.5, "tags": ["fun"], "plan": None}


def impression(name: str, *, at: float = 100.0, values: dict[str, Value] | None = None) -> Impression:
    shown = tuple(Shown(f"com.{place}", place, 0.5, values or VALUES, place) for place in (1, 2))
    return Impression(name, at, "v1", "ana", {"age": 30}, {"daytime": "noon"}, {"com.z": 2, "com.a": 1}, shown)


@pytest.fixture
def file(tmp_path: Path) -> Database:
    return Database(tmp_path / "log.sqlite", layout=LOG_LAYOUT)


def log_on(file: Database) -> SqliteEventLog:
    return SqliteEventLog(file, lambda: 200.0)


def kept(file: Database) -> int:
    return len(file.rows("SELECT key FROM app_values"))


def test_values_shown_often_are_kept_once_and_come_back_with_each_impression(file: Database) -> None:
    log, other_process = log_on(file), log_on(file)
    shown = [impression(f"r{number}") for number in range(5)]
    log.show(shown[:3])
    other_process.show([*shown[3:], impression("other", values={"rating": 1.0})])
    assert kept(file) == 2
    assert [one for one in log.impressions(0, 1e9) if one.request_id != "other"] == shown


def test_packed_values_are_kept_as_they_are_and_read_as_what_is_in_them(file: Database) -> None:
    one = impression("r1")
    items = tuple(Shown(item.app_id, item.position, item.score, packed(VALUES), item.others) for item in one.items)
    log_on(file).show([replace(one, items=items)])
    assert list(log_on(file).impressions(0, 1e9)) == [one]


def test_equal_values_pack_to_equal_keys_and_others_do_not() -> None:
    assert packed({"a": 1, "b": "x"}).key == packed({"b": "x", "a": 1}).key == Packed(b'{"a":1,"b":"x"}').key
    assert packed({"a": 1}).key != packed({"a": 1.0}).key
    assert packed({"a": 1, "b": "x"}) == {"b": "x", "a": 1}


def test_values_go_with_the_last_impressions_that_may_hold_them_and_no_sooner(file: Database) -> None:
    log = log_on(file)
    log.show([impression("old", at=100.0), impression("new", at=100.0 + KEPT_ON_S + 1)])
    assert log.trim(before=200.0, keep=LogCounts(100, 100)) == 1
    assert [one.items[0].features for one in log.impressions(0, 1e9)] == [VALUES]
    log.trim(before=100.0 + 3 * KEPT_ON_S, keep=LogCounts(100, 100))
    assert kept(file) == 0
    log.show([impression("again", at=100.0 + 3 * KEPT_ON_S)])
    assert [one.items[0].features for one in log.impressions(0, 1e9)] == [VALUES]


def test_impressions_of_a_release_that_kept_them_whole_are_read_as_before(file: Database) -> None:
    one = impression("r1")
    row = (one.request_id, one.at, one.user_id, msgspec.json.encode(["com.1", "com.2"]), msgspec.json.encode(one))
    with file.writing() as connection:
        connection.execute("INSERT INTO impressions (request_id, at, user_id, shown, body) VALUES (?, ?, ?, ?, ?)", row)
    log = log_on(file)
    log.show([impression("r2", at=101.0)])
    assert list(log.impressions(0, 1e9)) == [one, impression("r2", at=101.0)]


def test_impressions_of_a_release_without_measures_are_read_as_having_none(file: Database) -> None:
    one, log = impression("r1"), log_on(file)
    log.show([one])
    told = [one.version, one.user, one.context, one.history, [0.5, 0.5], [1, 2]]
    with file.writing() as connection:
        connection.execute("UPDATE impressions SET body = ?", (msgspec.json.encode(told),))
    assert list(log.impressions(0, 1e9)) == [one]


def test_what_is_trimmed_while_it_is_read_is_left_out(file: Database) -> None:
    log = log_on(file)
    log.show([impression("r1")])
    with file.writing() as connection:
        connection.execute("DELETE FROM app_values")
    assert list(log.impressions(0, 1e9)) == []
