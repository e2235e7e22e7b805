"""What becomes of bad rows: each fault names file, row, field and value, and good rows are kept."""

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.data.prepare import ImportOptions, prepare
from model.data.readers import Format, read_log
from model.data.report import Fault, ImportRefused
from model.query import NULL
from model.schema import FieldSpec, Kind, LogSpec, Source
from tests.model.data.logs import field, imported, raw_log, row, rows, schema, write_jsonl

BATTERY = field("battery", Source.CONTEXT, Kind.CONTINUOUS)
TAGS = field("tags", Source.CONTEXT, Kind.MULTI)
TEXT = "where a text, a whole number or a boolean is allowed"
BAD = [
    ("user_id", None, "missing"),
    ("user_id", "", "missing"),
    ("user_id", "u\n1", "a control character in a text"),
    ("user_id", "u" * 10_000, "a text of more than 512 characters"),
    ("user_id", ["u1"], f"list {TEXT}"),
    ("app_id", None, "missing"),
    ("app_id", "com.\x7f", "a control character in a text"),
    ("app_id", "a" * 513, "a text of more than 512 characters"),
    ("label", None, "missing"),
    ("label", "perhaps", "a label that is none of 1, true, 0, false"),
    ("daytime", 1.5, f"float {TEXT}"),
    ("daytime", {"at": "noon"}, f"dict {TEXT}"),
    ("battery", "full", "str where a number is allowed"),
    ("battery", True, "bool where a number is allowed"),
    ("battery", 10**400, "NaN or infinity where a finite number is allowed"),
    ("tags", "a", "str where a list of texts is allowed"),
    ("tags", ["a", 1.5], f"float {TEXT}"),
    ("at", "yesterday", "not a time: ISO 8601 or a number since 1970 is allowed"),
    ("at", None, "not a time: ISO 8601 or a number since 1970 is allowed"),
    ("slot", 0, "not a whole number from 1 on"),
    ("slot", 1.5, "not a whole number from 1 on"),
    ("slot", "first", "str where a number is allowed"),
]


def timed_rows() -> list[dict[str, Any]]:
    return [
        row(number, battery=0.5, tags=["x"], at=1_700_000_000 + number, slot=number % 3 + 1) for number in range(30)
    ]


@pytest.mark.parametrize(("name", "value", "why"), BAD, ids=lambda part: str(part)[:20])
def test_a_bad_value_is_reported_and_only_its_row_dropped(tmp_path: Path, name: str, value: object, why: str) -> None:
    given = timed_rows()
    given[4][name] = value
    examples, report = imported(given, tmp_path, schema(BATTERY, TAGS, log=LogSpec(at="at", position="slot")))
    shown = "nothing" if value is None else repr(value)
    shortened = shown if len(shown) <= 60 else shown[:59] + "…"
    assert report.faults == (Fault("events.jsonl", 5, name, shortened, why),)
    assert report.counts == {f"{name}: {why}": 1}
    assert (report.files[0].read, report.files[0].kept, examples.height) == (30, 29, 29)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_a_fault(value: float) -> None:
    given = [item | {"battery": 0.5} for item in rows()]
    given[7]["battery"] = value
    dataset, report = prepare(raw_log(given), schema(BATTERY))
    assert [(fault.row, fault.field, fault.value) for fault in report.faults] == [(8, "battery", repr(value))]
    assert dataset.examples.height == 59


def test_every_fault_is_counted_and_the_first_few_are_kept(tmp_path: Path) -> None:
    given = rows() + [row(number, label="perhaps", daytime=0.5) for number in range(200)]
    _, report = imported(given, tmp_path, schema())
    assert report.fault_count == 400
    assert sorted(report.counts.values()) == [200, 200]
    assert len(report.faults) == 10
    assert report.files[0].read - report.files[0].kept == 200


def test_malformed_lines_are_counted_with_the_other_faults(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "events.jsonl", rows())
    path.write_text("{\n" + path.read_text())
    dataset, report = prepare(read_log(path, Format.JSONL), schema())
    assert report.counts == {"Input data was truncated": 1}
    assert (report.files[0].read, report.files[0].kept, dataset.examples.height) == (61, 60, 60)


def test_missing_null_and_given_are_told_apart(tmp_path: Path) -> None:
    given = rows()
    del given[0]["daytime"]
    given[1]["daytime"] = None
    examples, _ = imported(given, tmp_path, schema(BATTERY, TAGS))
    assert examples["daytime"].head(3).to_list() == [None, NULL, "morning"]
    assert examples["battery"].null_count() == 60
    assert examples["tags"].dtype == pl.List(pl.String)


def test_a_null_number_is_nan_and_an_absent_one_null(tmp_path: Path) -> None:
    given = [item | {"battery": None} for item in rows()]
    del given[0]["battery"]
    examples, _ = imported(given, tmp_path, schema(BATTERY))
    assert examples["battery"].is_null().sum() == 1
    assert examples["battery"].is_nan().sum() == 59


def test_columns_without_a_meaning_are_listed_and_no_fault(tmp_path: Path) -> None:
    given = [item | {"installed": ["com.x"], "colour": {"r": 1}} for item in rows()]
    _, report = imported(given, tmp_path, schema())
    assert report.files[0].ignored == ("installed", "colour")
    assert report.fault_count == 0


@pytest.mark.parametrize("name", ["user_id", "app_id", "label", "seen_at", "part", "list", "slot"])
def test_a_log_without_a_named_column_is_refused(name: str) -> None:
    log = LogSpec(at="seen_at", split="part", request="list", position="slot")
    more = {"seen_at": 1, "part": "train", "list": "r1", "slot": 1}
    given = [{key: value for key, value in (item | more).items() if key != name} for item in rows()]
    with pytest.raises(ImportRefused, match=f"events.parquet has no column '{name}', it has .*daytime"):
        prepare(raw_log(given), schema(log=log))


def test_a_split_of_another_name_is_a_fault() -> None:
    given = [row(number, part=["train", "valid", "test"][number % 3]) for number in range(60)]
    _, report = prepare(raw_log(given), schema(log=LogSpec(split="part", positive=("0",))))
    assert report.counts == {"part: none of train, stop, valid, gate": 20}


def test_a_required_field_that_is_missing_is_a_fault(tmp_path: Path) -> None:
    required = field("country", Source.CONTEXT, required=True)
    given = [item | {"country": None} for item in rows()]
    del given[3]["country"]
    _, report = imported(given, tmp_path, schema(required))
    assert [(fault.row, fault.why) for fault in report.faults] == [(4, "missing, and the field is required")]


@pytest.fixture
def country() -> FieldSpec:
    return field("country", Source.USER, required=True)


def test_a_required_user_field_may_come_from_the_users_file(country: FieldSpec) -> None:
    users = [{"user_id": f"u{number}", "country": "PT"} for number in range(9)]
    dataset, report = prepare(raw_log(rows(), users=users), schema(country))
    assert report.counts == {"country: missing, and the field is required": 6}
    assert set(dataset.examples["country"]) == {"PT"}


def test_bad_apps_and_users_are_faults_and_their_ids_stay_known() -> None:
    apps = [{"app_id": "com.a0", "price": 1.0}, {"app_id": "com.a1", "price": float("inf")}]
    users = [{"user_id": "u0", "installed": ["com.z"]}, {"user_id": "u1", "installed": ["com.\x00"]}]
    price = field("price", Source.APP, Kind.CONTINUOUS)
    dataset, report = prepare(raw_log(rows(), apps=apps, users=users), schema(price))
    assert {(fault.file, fault.row, fault.field) for fault in report.faults} == {
        ("apps.parquet", 2, "price"),
        ("users.parquet", 2, "installed"),
    }
    assert dataset.apps.filter(app_id="com.a1")["price"].to_list() == [None]
    assert dataset.users.filter(user_id="u1")["installed"].to_list() == [[]]


@pytest.mark.parametrize("value", ["maybe", 2, "no"])
def test_an_availability_that_is_no_flag_is_a_fault(value: object) -> None:
    apps = [{"app_id": "com.a0", "available": value}]
    _, report = prepare(raw_log(rows(), apps=apps), schema())
    assert report.counts == {"available: none of true, 1, false, 0": 1}


def test_an_apps_file_without_ids_is_refused() -> None:
    with pytest.raises(ImportRefused, match=r"apps.parquet has no id column: none of app_id, app_id, id in name"):
        prepare(raw_log(rows(), apps=[{"name": "x"}]), schema())


def test_a_log_with_no_good_row_is_refused_with_the_numbers() -> None:
    given = [row(number, daytime="\x01") for number in range(5)]
    with pytest.raises(ImportRefused, match=r"none of the 5 rows of events.parquet is good: daytime: .* \(5\); first:"):
        prepare(raw_log(given), schema(), options=ImportOptions(fault_limit=1))
