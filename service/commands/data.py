"""`appshelf draft` and `appshelf import`: from someone's log to a home that can be trained on."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from service.commands.session import opened, refusals
from service.commands.terminal import AsJson, print_json, say, working

if TYPE_CHECKING:
    from service.importing import Imported

FAULTS_SHOWN = 10
SPLITS = ("train", "stop", "gate")


class LogFormat(StrEnum):
    """The formats that can be imported."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"
    FRAPPE = "frappe"


def draft(
    folder: Annotated[Path, typer.Argument(help="A log file, or a folder with events.*, apps.* and users.*.")],
    *,
    out: Annotated[Path | None, typer.Option(help="Write the schema here instead of printing it.")] = None,
) -> None:
    """Draft a schema.yaml from a log's columns: read it, correct it, then import with it."""
    from model.schema import dump_schema
    from service.importing import draft_schema

    with refusals():
        drafted = draft_schema(folder)
    for note in drafted.notes:
        say(note)
    if out is None:
        typer.echo(dump_schema(drafted.schema), nl=False)
    else:
        out.write_text(dump_schema(drafted.schema), encoding="utf-8")
        say(f"wrote {out}")


def import_log(
    context: typer.Context,
    log_format: Annotated[LogFormat, typer.Argument(metavar="FORMAT", help="parquet, csv, jsonl or frappe.")],
    path: Annotated[Path, typer.Argument(help="A log file, or a folder with events.*, apps.* and users.*.")],
    *,
    schema: Annotated[
        Path | None,
        typer.Option(help="Schema file; without it schema.yaml beside the log, without that one drafted."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Import a log: check it row by row, keep the good rows for training, put its apps and users into the store."""
    from service.demo import refuse_demo
    from service.importing import ahead, keep, keep_report, read_import

    with opened(context) as container, working(f"importing {path}"):
        refuse_demo(container.home)
        imported = read_import(log_format, path, schema=schema)
        doubtful = ahead(imported.dataset, now=container.clock())
        keep(imported.dataset, container.home, container.features)
        report_file = keep_report(imported.report, container.home)
    if as_json:
        print_json(
            {
                "counts": dict(imported.dataset.facts.counts),
                "schema": imported.schema,
                "notes": [*imported.notes, *doubtful],
                **imported.report.to_json(),
            }
        )
    else:
        _say_imported(imported, report_file)
        for note in doubtful:
            say(note)


def _say_imported(imported: "Imported", report_file: Path) -> None:
    report, facts = imported.report, imported.dataset.facts
    for file in report.files:
        doubled = f", {file.duplicates} ids came twice" if file.duplicates else ""
        typer.echo(f"{file.file}: {file.kept} of {file.read} rows are good{doubled}")
        if file.ignored:
            typer.echo(f"{file.file}: columns without a meaning: {', '.join(file.ignored)}")
    for fault in report.faults[:FAULTS_SHOWN]:
        typer.echo(f"  {fault}")
    if report.fault_count > FAULTS_SHOWN:
        typer.echo(f"  {report.fault_count} faults in all, see {report_file}")
    drawn = f", {report.negatives} negatives drawn by rule {facts.negatives!r}" if report.negatives else ""
    typer.echo(f"schema: {imported.schema}{drawn}")
    for note in imported.notes:
        typer.echo(f"  {note}")
    splits = ", ".join(f"{name} {facts.counts[name]} ({facts.counts[f'{name}_positive']} positive)" for name in SPLITS)
    typer.echo(f"rows to learn from: {splits}")
