"""Importing a log into a home."""

import errno
import json
from datetime import datetime
from pathlib import Path

import polars as pl
import pytest

from model.data.dataset import read
from model.data.queries import raw_values
from model.data.report import ImportRefused
from model.query import NULL
from model.schema import SchemaError, Source, parse_schema
from service.errors import HomeUnusable
from service.home import Home
from service.importing import ahead, draft_schema, keep, keep_report, read_import
from service.store.sqlite import Database
from service.store.sqlite_features import SqliteFeatureStore

SCHEMA = """
fields:
  - {name: country, source: user, kind: categorical}
  - {name: daytime, source: context, kind: categorical}
  - {name: installed, source: history, kind: multi}
  - {name: app_id, source: app, kind: categorical}
  - {name: price, source: app, kind: continuous}
crosses:
  - {fields: [installed, app_id]}
log: {at: at, label: kind, positive: [install]}
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.ensure()
    return home


@pytest.fixture
def features(home: Home) -> SqliteFeatureStore:
    return SqliteFeatureStore(Database(home.store))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """Forty events of two users and two apps; u1 uses `a` most."""
    folder = tmp_path / "log"
    folder.mkdir()
    rows = [
        {
            "user_id": f"u{number % 2}",
            "app_id": "a" if number % 3 else "b",
            "at": f"2026-01-{number // 2 + 1:02}T0{number % 2}:00:00Z",
            "kind": "skip" if number % 5 == 0 else "install",
            "daytime": "night",
        }
        for number in range(40)
    ]
    (folder / "events.jsonl").write_text("\n".join(map(json.dumps, rows)))
    (folder / "apps.csv").write_text("app_id,price,available,countries\na,0.5,true,\nb,,false,PT|DE\n")
    (folder / "users.csv").write_text("user_id,country\nu0,PT\nu1,\n")
    (folder / "schema.yaml").write_text(SCHEMA)
    return folder


def test_a_log_is_kept_for_training_and_its_apps_and_users_in_the_store(
    log: Path, home: Home, features: SqliteFeatureStore
) -> None:
    keep(read_import("jsonl", log, schema=None).dataset, home, features)
    assert read(home.data).facts.counts["train"] > 0
    app, user = features.get_app("b"), features.get_user("u0")
    assert app is not None
    assert (app.available, app.countries) == (False, ("PT", "DE"))
    assert user is not None
    assert user.features == {"country": "PT"}


def test_a_user_has_used_most_first(log: Path, home: Home, features: SqliteFeatureStore) -> None:
    keep(read_import("jsonl", log, schema=None).dataset, home, features)
    user = features.get_user("u1")
    assert user is not None
    assert list(user.history) == ["a", "b"]
    assert user.history["a"] > user.history["b"] > 0


def test_importing_twice_changes_nothing_in_the_store(log: Path, home: Home, features: SqliteFeatureStore) -> None:
    dataset = read_import("jsonl", log, schema=None).dataset
    keep(dataset, home, features)
    sequence = features.apps_since(0).sequence
    keep(dataset, home, features)
    assert features.apps_since(0).sequence == sequence


def test_a_dataset_that_cannot_be_written_leaves_the_one_before(
    log: Path, home: Home, features: SqliteFeatureStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = read_import("jsonl", log, schema=None).dataset
    keep(dataset, home, features)
    monkeypatch.setattr(pl.DataFrame, "write_parquet", full_disk)
    with pytest.raises(HomeUnusable, match="No space left"):
        keep(dataset, home, features)
    assert read(home.data).facts == dataset.facts


def full_disk(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_the_schema_given_goes_before_the_one_beside_the_log(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SCHEMA.replace("name: price", "name: cost"))
    imported = read_import("jsonl", log, schema=other)
    assert "cost" in imported.dataset.apps.columns
    assert imported.schema == str(other)


def test_a_log_without_a_schema_is_imported_under_a_drafted_one(log: Path) -> None:
    (log / "schema.yaml").unlink()
    events = (log / "events.jsonl").read_text()
    (log / "events.jsonl").write_text(
        events.replace('"kind": "install"', '"label": 1').replace('"kind": "skip"', '"label": 0')
    )
    imported = read_import("jsonl", log, schema=None)
    assert "drafted" in imported.schema
    assert imported.dataset.schema == draft_schema(log).schema


def test_what_is_doubtful_of_a_drafted_schema_is_said_by_the_import_too(log: Path) -> None:
    (log / "schema.yaml").unlink()
    events = (log / "events.jsonl").read_text()
    (log / "events.jsonl").write_text(events.replace('"kind": "install"', '"event": "gekauft"'))
    with (log / "apps.csv").open("a") as apps:
        apps.writelines(f"other{number},1,true,\n" for number in range(20))  # of which negatives are drawn
    imported = read_import("jsonl", log, schema=None)
    assert imported.notes == draft_schema(log).notes
    assert "every row counts as positive" in " ".join(imported.notes)


def test_rows_that_are_yet_to_come_are_said(log: Path) -> None:
    dataset = read_import("jsonl", log, schema=None).dataset
    last = dataset.examples["at"].max()
    assert isinstance(last, datetime)
    assert ahead(dataset, now=last.timestamp()) == ()
    (note,) = ahead(dataset, now=last.timestamp() - 86_400)
    assert note.startswith(f"2 row(s) are later than now, the last at {last.isoformat()}; until then no retrain adds")


def test_a_draft_finds_the_format_of_a_folder(log: Path) -> None:
    names = [field.name for field in draft_schema(log).schema.fields]
    assert "price" in names
    assert "daytime" in names


@pytest.mark.parametrize("there", ["", "fields: ["])
def test_a_draft_and_another_schema_take_no_notice_of_the_one_in_the_folder(
    log: Path, tmp_path: Path, there: str
) -> None:
    other = tmp_path / "other.yaml"
    other.write_text(SCHEMA)
    drafted = draft_schema(log)
    (log / "schema.yaml").write_text(there)  # empty is what a shell makes of it for `draft FOLDER > FOLDER/schema.yaml`
    assert draft_schema(log) == drafted
    assert read_import("jsonl", log, schema=other).schema == str(other)


def test_a_draft_of_no_log_is_refused_naming_the_formats(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="parquet, csv, jsonl"):
        draft_schema(tmp_path)


def test_a_missing_schema_file_is_refused(log: Path) -> None:
    with pytest.raises(SchemaError, match="nowhere"):
        read_import("jsonl", log, schema=Path("nowhere.yaml"))


def test_the_report_names_the_row_of_a_bad_value(log: Path, home: Home) -> None:
    (log / "apps.csv").write_text("app_id,price\na,cheap\n")
    report = json.loads(keep_report(read_import("jsonl", log, schema=None).report, home).read_text())
    assert report["faults"][0] | {"why": ""} == {
        "file": "apps.csv",
        "row": 1,
        "field": "price",
        "value": "'cheap'",
        "why": "",
    }


def test_missing_values_are_left_out_and_explicit_nulls_kept() -> None:
    schema = parse_schema(SCHEMA)
    row = pl.DataFrame({"app_id": ["a"], "price": [float("nan")]}).row(0, named=True)
    assert raw_values(row, schema, source=Source.APP) == {"price": None}
    assert raw_values({"country": NULL}, schema, source=Source.USER) == {"country": None}
    assert raw_values({"country": None}, schema, source=Source.USER) == {}
