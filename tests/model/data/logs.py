"""Small logs for tests: what a store of a few users and apps would hand in."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl

from model.data.prepare import ImportOptions, prepare
from model.data.readers import Format, RawLog, Table, read_log
from model.data.report import ImportReport
from model.schema import FeatureSchema, FieldSpec, Kind, LogSpec, Negatives, Source

Row = Mapping[str, Any]


def field(name: str, source: Source, kind: Kind = Kind.CATEGORICAL, *, required: bool = False) -> FieldSpec:
    return FieldSpec(name=name, source=source, kind=kind, required=required)


def schema(*more: FieldSpec, log: LogSpec | None = None) -> FeatureSchema:
    """A user, an app, the context `daytime`, what is installed, and `more`."""
    fields = (
        field("user_id", Source.USER),
        field("app_id", Source.APP),
        field("daytime", Source.CONTEXT),
        field("installed", Source.HISTORY, Kind.MULTI),
    )
    return FeatureSchema(fields=fields + more, log=log or LogSpec())


def row(number: int, **changes: object) -> dict[str, Any]:
    """One good row of a log: ten users, seven apps, every third row positive."""
    base = {"user_id": f"u{number % 10}", "app_id": f"com.a{number % 7}", "label": int(number % 3 == 0)}
    return base | {"daytime": "morning"} | changes


def rows(count: int = 60) -> list[dict[str, Any]]:
    return [row(number) for number in range(count)]


def table(given: Sequence[Row], file: str = "events.parquet") -> Table:
    return Table.of(file, pl.DataFrame(list(given), infer_schema_length=None))


def raw_log(given: Sequence[Row], *, apps: Sequence[Row] = (), users: Sequence[Row] = ()) -> RawLog:
    return RawLog(
        "test",
        table(given),
        table(apps, "apps.parquet") if apps else None,
        table(users, "users.parquet") if users else None,
    )


def write_jsonl(path: Path, given: Sequence[Row]) -> Path:
    path.write_text("".join(json.dumps(item) + "\n" for item in given), encoding="utf-8")
    return path


def imported(given: Sequence[Row], folder: Path, using: FeatureSchema) -> tuple[pl.DataFrame, ImportReport]:
    """The examples and the report of importing rows written as JSON lines."""
    log = read_log(write_jsonl(folder / "events.jsonl", given), Format.JSONL)
    dataset, report = prepare(log, using, options=ImportOptions(fault_limit=10))
    return dataset.examples, report


def positives_only(**log: Any) -> LogSpec:  # noqa: ANN401 - any of LogSpec's fields
    return LogSpec(negatives=Negatives(per_positive=2), **log)
