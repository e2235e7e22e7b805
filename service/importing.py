"""From a log's files to a home: the dataset for training, and its apps and users into the store."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from model.data import frappe
from model.data.dataset import Dataset, user_histories, write
from model.data.draft import Draft, draft
from model.data.prepare import prepare
from model.data.queries import raw_values
from model.data.readers import Format, read_log
from model.data.report import ImportRefused, ImportReport
from model.schema import FeatureSchema, Source, read_schema
from service.errors import HomeUnusable
from service.feedback import AHEAD_S
from service.home import Home
from service.store.ports import AppRecord, FeatureStore, UserRecord

FRAPPE = "frappe"
RECORDS_AT_ONCE = 2_000
"""Records a transaction: few enough that a running server's own writes get their turn between two."""


@dataclass(frozen=True)
class Imported:
    """What an import brought. schema: where the fields came from; notes: what was doubtful of a draft or of times."""

    dataset: Dataset
    report: ImportReport
    schema: str
    notes: tuple[str, ...] = ()


def read_import(format_name: str, path: Path, *, schema: Path | None) -> Imported:
    """Read a log and check it row by row; nothing is written.

    The schema is the file given, else `schema.yaml` beside the log, else one drafted from its columns. Raises
    ImportRefused and SchemaError.
    """
    if format_name == FRAPPE:
        return Imported(*frappe.load(path), schema="the benchmark's")
    log = read_log(path, Format(format_name), own_schema=schema is None)
    if schema:
        return Imported(*prepare(log, read_schema(schema)), schema=str(schema))
    if log.schema:
        return Imported(*prepare(log, log.schema), schema=str(path / "schema.yaml"))
    drafted = draft(log)
    return Imported(*prepare(log, drafted.schema), schema="drafted from the log's columns", notes=drafted.notes)


def ahead(dataset: Dataset, *, now: float) -> tuple[str, ...]:
    """What is doubtful of a dataset's times at `now`, epoch seconds: that some are yet to come.

    A version counts uses up to the last of them, and the next one adds those that came after it (`model.data.census`).
    """
    if not dataset.facts.timed:
        return ()
    later = pl.col("at").dt.epoch("us") > (now + AHEAD_S) * 1e6
    count, last = dataset.collect(dataset.scan().filter(later).select(pl.len(), pl.max("at"))).row(0)
    if not count:
        return ()
    return (
        f"{count} row(s) are later than now, the last at {last.isoformat()}; until then no retrain adds to what "
        "`in_context` fields count: see whether the log's clock and the unit of its times are right, or leave them out",
    )


def draft_schema(path: Path) -> Draft:
    """Draft a schema from a log, in whichever format it is, whatever schema it has. Raises ImportRefused."""
    return draft(read_log(path, format_of(path), own_schema=False))


def format_of(path: Path) -> Format:
    """The format of a log file, or of a folder's events, by its ending. Raises ImportRefused."""
    files = sorted(path.glob("events.*")) if path.is_dir() else [path]
    endings = [file.name.removesuffix(".gz").rpartition(".")[2] for file in files]
    for ending in endings:
        if ending in list(Format):
            return Format(ending)
    raise ImportRefused(f"{path} has no events in a known format; a log is {', '.join(Format)}, gzipped or not")


def keep(dataset: Dataset, home: Home, features: FeatureStore) -> None:
    """Write the dataset into the home, and its apps and users with their histories into the store.

    Putting the same again changes nothing, so an import that was cut short is mended by running it again. Raises
    HomeUnusable where the dataset cannot be written (a full disk); what the home held before then stands.
    """
    try:
        write(dataset, home.data)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise HomeUnusable(home.root, str(error)) from error
    for apps in dataset.apps.iter_slices(RECORDS_AT_ONCE):
        features.put_apps(app_records(apps, dataset.schema))
    histories = user_histories(dataset)
    for users in dataset.users.iter_slices(RECORDS_AT_ONCE):
        features.put_users(user_records(users, dataset.schema, histories=histories))


def keep_report(report: ImportReport, home: Home) -> Path:
    """Write the import's report, every kept fault in it, and name the file."""
    file = home.reports / "import.json"
    file.write_text(json.dumps(report.to_json(), indent=2), encoding="utf-8")
    return file


def app_records(apps: pl.DataFrame, schema: FeatureSchema) -> Iterator[AppRecord]:
    """A dataset's apps as the store keeps them."""
    for row in apps.iter_rows(named=True):
        features = raw_values(row, schema, source=Source.APP)
        yield AppRecord(row["app_id"], features, row["available"], tuple(row["countries"]))


def user_records(
    users: pl.DataFrame, schema: FeatureSchema, *, histories: Mapping[str, Mapping[str, int]]
) -> Iterator[UserRecord]:
    """A dataset's users as the store keeps them, each with what they used, most used first."""
    for row in users.iter_rows(named=True):
        features = raw_values(row, schema, source=Source.USER)
        yield UserRecord(row["user_id"], features, histories.get(row["user_id"], {}))
