"""A dataset's examples where they are: in memory, or in a file of which only what is asked for is read."""

import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from model.causes import first_line

AGAIN = "run `appshelf import FORMAT PATH` again"


class DatasetError(ValueError):
    """A dataset folder cannot be read; the message names the file and the next step."""


@dataclass(frozen=True)
class HeldRows:
    """Rows in memory."""

    frame: pl.DataFrame

    def scan(self) -> pl.LazyFrame:
        """The rows as a query."""
        return self.frame.lazy()

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What a query over `scan` gives."""
        return rows.collect()


class StoredRows:
    """Rows in a Parquet file, which is kept open: they can be read to the end whatever takes the file's place."""

    def __init__(self, file: Path) -> None:
        self._folder, self._file = file.parent, file.open("rb")
        weakref.finalize(self, self._file.close)

    def scan(self) -> pl.LazyFrame:
        """The rows as a query."""
        return pl.scan_parquet(self._file)

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What a query over `scan` gives. Raises DatasetError where the file is damaged."""
        try:
            return rows.collect(engine="streaming")
        except (OSError, pl.exceptions.PolarsError) as error:
            first = first_line(error)
            raise DatasetError(f"the data in {self._folder} is damaged ({first}); {AGAIN}") from error


class RowSource(Protocol):
    """Where examples are."""

    def scan(self) -> pl.LazyFrame:
        """The rows as a query."""

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What a query over `scan` gives."""


class Rows:
    """The field of a dataset that holds its examples: set to a frame or to stored rows, read as a frame.

    Stored rows are read whole when the frame is first asked for, and kept.
    """

    def __set__(self, owner: object, rows: pl.DataFrame | RowSource) -> None:
        vars(owner)["rows"] = HeldRows(rows) if isinstance(rows, pl.DataFrame) else rows

    def __get__(self, owner: object, kind: type | None = None) -> pl.DataFrame:
        source = self.of(owner)
        if not isinstance(source, HeldRows):
            source = vars(owner)["rows"] = HeldRows(source.collect(source.scan()))
        return source.frame

    @staticmethod
    def of(owner: object) -> RowSource:
        """Where the examples of a dataset are."""
        source: RowSource = vars(owner)["rows"]
        return source
