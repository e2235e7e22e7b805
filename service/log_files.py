"""The log as a folder of Parquet files: exported a part at a time, imported only where every byte is right."""

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import msgspec
import polars as pl

from service.errors import ServiceError
from service.log_rows import feedback_frame, feedback_of, impressions_frame, impressions_of
from service.store.log_ports import EventLog, LogCounts, Taken

FORMAT = 1
MANIFEST = "manifest.json"
IMPRESSIONS, FEEDBACK = "impressions", "feedback"
FILE_NAME = re.compile(rf"({IMPRESSIONS}|{FEEDBACK})-\d{{5,}}\.parquet")
ROWS_A_FILE = 10_000
ROWS_AT_ONCE = 500
END_OF_TIME = 253_402_300_800.0  # the year 10,000, which no datetime reaches

T = TypeVar("T")


class LogFilesRefused(ServiceError):
    """A folder cannot be exported to, or holds no sound export."""


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the manifest says of one file; size: bytes."""

    rows: int
    size: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Every file of an export; written last, so that an export that broke off has none."""

    format: int
    files: dict[str, Entry]

    def rows(self, kind: str) -> int:
        """The rows in all files of impressions or of feedback."""
        return sum(entry.rows for name, entry in self.files.items() if name.startswith(kind))


@dataclass(frozen=True)
class Span:
    """Times with since <= at < until, in epoch seconds."""

    since: float = 0.0
    until: float = END_OF_TIME


@dataclass(frozen=True)
class Imported:
    """What an import brought: how much there was, how much of it was new, and events whose id was another's here."""

    read: LogCounts
    new: LogCounts
    refused: int


def export_log(log: EventLog, folder: Path, *, span: Span) -> LogCounts:
    """Write the log's rows of these times into a new or empty folder; how many.

    Raises LogFilesRefused where something is in the folder, StoreUnavailable, OSError.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise LogFilesRefused(f"the folder {folder} is not empty, and an export begins in an empty one; name another")
    shown = _chunks(log.impressions(span.since, span.until), ROWS_A_FILE)
    taken = _chunks(log.feedback(span.since, span.until), ROWS_A_FILE)
    files = dict(_written(map(impressions_frame, shown), folder, IMPRESSIONS))
    files |= _written(map(feedback_frame, taken), folder, FEEDBACK)
    manifest = Manifest(FORMAT, files)
    (folder / MANIFEST).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2))
    return LogCounts(manifest.rows(IMPRESSIONS), manifest.rows(FEEDBACK))


def import_log(log: EventLog, folder: Path) -> Imported:
    """Put an export into the log; what is there already stays as it is, so that a second import changes nothing.

    Every file is checked before the first row is kept. Raises LogFilesRefused naming what is damaged, StoreUnavailable.
    """
    manifest = _sound(folder)
    new, outcomes = 0, []
    for file in _files(manifest, folder, IMPRESSIONS):
        new += sum(log.show(some) for some in _chunks(_decoded(file, impressions_of), ROWS_AT_ONCE))
    for file in _files(manifest, folder, FEEDBACK):
        outcomes += [became for some in _chunks(_decoded(file, feedback_of), ROWS_AT_ONCE) for became in log.take(some)]
    read = LogCounts(manifest.rows(IMPRESSIONS), manifest.rows(FEEDBACK))
    return Imported(read, LogCounts(new, outcomes.count(Taken.NEW)), outcomes.count(Taken.OTHER))


def _chunks(rows: Iterable[T], size: int) -> Iterator[list[T]]:
    left = iter(rows)
    while some := list(islice(left, size)):
        yield some


def _written(frames: Iterable[pl.DataFrame], folder: Path, kind: str) -> Iterator[tuple[str, Entry]]:
    """Write each frame to a file of its own, and what the manifest says of it; one frame at a time is in memory."""
    for number, frame in enumerate(frames):
        file = folder / f"{kind}-{number:05}.parquet"
        frame.write_parquet(file)
        yield file.name, Entry(len(frame), file.stat().st_size, _sha256(file))


def _files(manifest: Manifest, folder: Path, kind: str) -> list[Path]:
    return [folder / name for name in sorted(manifest.files) if name.startswith(kind)]


def _sound(folder: Path) -> Manifest:
    """The manifest of a folder in which each file is as it was written. Raises LogFilesRefused."""
    place = folder / MANIFEST
    try:
        manifest = msgspec.json.decode(place.read_bytes(), type=Manifest)
    except FileNotFoundError as error:
        raise LogFilesRefused(f"{folder} holds no whole export, {MANIFEST} is not there; export again") from error
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LogFilesRefused(f"{place} cannot be read ({error}); restore it from a copy or export again") from error
    if manifest.format != FORMAT:
        raise LogFilesRefused(f"{place} has format {manifest.format} where {FORMAT} is known; upgrade appshelf")
    for name, entry in manifest.files.items():
        if fault := _fault(folder, name, entry):
            raise LogFilesRefused(f"{folder / name} {fault}; restore it from a copy or export again")
    return manifest


def _fault(folder: Path, name: str, entry: Entry) -> str | None:
    """What is wrong with a file, None where nothing is."""
    if not FILE_NAME.fullmatch(name):
        return "is in the manifest and no file of an export has such a name"
    file = folder / name
    try:
        size = file.stat().st_size
        if size != entry.size:
            return f"has {size} bytes where {entry.size} were written"
        return None if _sha256(file) == entry.sha256 else "has changed since it was written"
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def _decoded(file: Path, decode: Callable[[pl.DataFrame], Sequence[T]]) -> Sequence[T]:
    try:
        return decode(pl.read_parquet(file))
    except (pl.exceptions.PolarsError, msgspec.MsgspecError, ValueError, KeyError, TypeError) as error:
        raise LogFilesRefused(f"{file} does not hold the rows of an export ({error}); export again") from error


def _sha256(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
