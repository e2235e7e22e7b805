"""Read a log's files as they are: Parquet, CSV and JSON lines, gzipped or not, into raw polars columns."""

import csv
import gzip
import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgspec
import polars as pl

from model.causes import first_line
from model.data.report import Fault, ImportRefused, shown
from model.schema import FeatureSchema, read_schema

MAX_COLUMNS = 2000
OTHER_SEPARATORS = (";", "\t", "|")


class Format(StrEnum):
    """The file formats of a log."""

    PARQUET = "parquet"
    CSV = "csv"
    JSONL = "jsonl"


@dataclass(frozen=True)
class Table:
    """One file as read.

    frame: (n, c) raw columns, any dtype, mixed JSON as Object; rows: (n,) 1-based row numbers in the file.
    A null is an explicit null unless `absent` (name to (n,) booleans) says that the row lacks the key.
    textual: every value is text still to be parsed. malformed: lines that are no rows at all.
    """

    file: str
    frame: pl.DataFrame
    rows: pl.Series
    absent: Mapping[str, pl.Series] = field(default_factory=dict)
    malformed: tuple[Fault, ...] = ()
    textual: bool = False

    @classmethod
    def of(cls, file: str, frame: pl.DataFrame) -> "Table":
        """A frame as if it had been read from `file`."""
        return cls(file, frame, _numbers(frame.height))


@dataclass(frozen=True)
class RawLog:
    """A log before any check: events, and where a folder has them, apps, users and a schema."""

    source: str
    events: Table
    apps: Table | None = None
    users: Table | None = None
    schema: FeatureSchema | None = None


def read_log(path: Path, file_format: Format, *, own_schema: bool = True) -> RawLog:
    """Read one log file, or a folder of `events.*` and optional `apps.*`, `users.*` and `schema.yaml`.

    Apps and users may be in another format than the events. own_schema: False leaves the folder's schema alone, as
    for a draft, into whose file a shell may be about to write. Raises ImportRefused where there is nothing to read,
    SchemaError.
    """
    source = f"{file_format}: {path}"
    if not path.is_dir():
        return RawLog(source, read_table(path, file_format))
    events = _find(path, "events", (file_format,))
    if events is None:
        held = ", ".join(sorted(entry.name for entry in path.iterdir())[:10]) or "nothing"
        there = _find(path, "events", tuple(Format))
        instead = f"; import it as {there[1]}" if there else ""
        raise ImportRefused(f"{path} has no events.{file_format} or events.{file_format}.gz; it holds {held}{instead}")
    others = [_find(path, stem, (file_format, *Format)) for stem in ("apps", "users")]
    apps, users = (read_table(*found) if found else None for found in others)
    file = path / "schema.yaml"
    schema = read_schema(file) if own_schema and file.exists() else None
    return RawLog(source, read_table(*events), apps, users, schema)


def read_table(path: Path, file_format: Format) -> Table:
    """Read one file. Raises ImportRefused where it is missing, empty or not of this format."""
    content = file_bytes(path)
    if not content or content.isspace():
        raise ImportRefused(f"{path} is empty")
    match file_format:
        case Format.PARQUET:
            return Table.of(path.name, _parquet(path, content))
        case Format.CSV:
            return _csv(path, content)
        case Format.JSONL:
            return _jsonl(path, content)


def _find(folder: Path, stem: str, formats: Sequence[Format]) -> tuple[Path, Format] | None:
    for file_format in formats:
        for ending in ("", ".gz"):
            path = folder / f"{stem}.{file_format}{ending}"
            if path.is_file():
                return path, file_format
    return None


def file_bytes(path: Path) -> bytes:
    """A file's bytes, unzipped where its name ends in .gz. Raises ImportRefused where it cannot be read."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImportRefused(f"{path} is not a whole gzip file: {error}") from error
    except OSError as error:
        raise ImportRefused(f"{path} cannot be read: {error.strerror}") from error


def _numbers(count: int) -> pl.Series:
    return pl.int_range(1, count + 1, eager=True).alias("row")


def _parquet(path: Path, content: bytes) -> pl.DataFrame:
    try:
        return pl.read_parquet(io.BytesIO(content))
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ImportRefused(f"{path} is not a Parquet file that can be read: {first_line(error)}") from error


def _csv(path: Path, content: bytes) -> Table:
    """All cells as text; an empty cell, and a cell that a short row lacks, is null; a blank line is no row."""
    try:
        frame = pl.read_csv(content, infer_schema=False)
        rows, malformed = _numbers(frame.height), tuple[Fault, ...]()
    except pl.exceptions.PolarsError:
        frame, rows, malformed = _csv_by_row(path, content)
    if frame.width == 1 and (found := [one for one in OTHER_SEPARATORS if one in frame.columns[0]]):
        header = shown(frame.columns[0])
        raise ImportRefused(f"{path} is one column, {header}, separated by {found[0]!r}; write it with commas")
    frame = frame.with_columns(pl.all().replace("", None))
    filled = frame.select(pl.any_horizontal(pl.all().is_not_null())).to_series()
    return Table(path.name, frame.filter(filled), rows.filter(filled), malformed=malformed, textual=True)


def _csv_by_row(path: Path, content: bytes) -> tuple[pl.DataFrame, pl.Series, tuple[Fault, ...]]:
    """Read a CSV that polars refuses as a whole, row by row, to keep its good rows and name the others."""
    reader = csv.reader(io.StringIO(content.decode("utf-8-sig", errors="replace"), newline=""))
    good: dict[int, list[str]] = {}
    faults = []
    try:
        header = next(reader)
        for number, cells in enumerate(reader, start=1):
            if why := _csv_fault(cells, len(header)):
                faults.append(Fault(path.name, number, "", shown(",".join(cells)), why))
            else:
                good[number] = cells + [""] * (len(header) - len(cells))
    except csv.Error as error:
        raise ImportRefused(f"{path} row {len(good) + len(faults) + 1}: {error}; is a quote left open?") from error
    if len(set(header)) < len(header):
        raise ImportRefused(f"{path} names a column twice in its header: {', '.join(header)}")
    frame = pl.DataFrame(list(good.values()), schema=dict.fromkeys(header, pl.String), orient="row")
    return frame, pl.Series("row", list(good), dtype=pl.Int64), tuple(faults)


def _csv_fault(cells: Sequence[str], width: int) -> str | None:
    if len(cells) > width:
        return f"more cells than the header's {width}"
    return "not UTF-8" if any("\ufffd" in cell for cell in cells) else None


def _jsonl(path: Path, content: bytes) -> Table:
    objects: dict[int, dict[str, Any]] = {}
    faults = []
    for number, parsed in _json_lines(content):
        if isinstance(parsed, dict):
            objects[number] = parsed
        else:
            faults.append(Fault(path.name, number, "", *parsed))
    keys = list(dict.fromkeys(key for row in objects.values() for key in row))
    if len(keys) > MAX_COLUMNS:
        raise ImportRefused(f"{path} has {len(keys)} different keys; at most {MAX_COLUMNS} are read")
    frame = pl.DataFrame([_series(key, [row.get(key) for row in objects.values()]) for key in keys])
    lacks = {key: pl.Series(key, [key not in row for row in objects.values()], dtype=pl.Boolean) for key in keys}
    absent = {key: mask for key, mask in lacks.items() if mask.any()}
    return Table(path.name, frame, pl.Series("row", list(objects), dtype=pl.Int64), absent, tuple(faults))


def _json_lines(content: bytes) -> Iterator[tuple[int, dict[str, Any] | tuple[str, str]]]:
    """Each line's number with its object, or with what the line is and why it is none; blank lines are skipped."""
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield number, decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            why = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error).partition(" (byte")[0]
            yield number, (shown(line.decode(errors="replace")), why)


def _series(name: str, values: list[object]) -> pl.Series:
    """A typed column of scalars where all agree, else one of Python objects, to be judged value by value."""
    types = set(map(type, values)) - {type(None)}
    if len(types) > 1 or types & {list, dict}:
        return pl.Series(name, values, dtype=pl.Object)
    try:
        return pl.Series(name, values, strict=True)
    except (TypeError, OverflowError, pl.exceptions.PolarsError):  # whole numbers beyond 128 bits
        return pl.Series(name, values, dtype=pl.Object)
