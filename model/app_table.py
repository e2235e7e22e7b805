"""The app side of a net, computed once per app and version: what makes a candidate cheap to score.

A table has a base, which lies in files that every process of a machine maps and shares, and after it the apps that
were put in this process since. Either may be empty.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from model.app_columns import KEYS, LOWER, AppSide, Columns, Gathered, fetched, gathered, halved, picked
from model.array_folder import ADVICE, ArraysUnusable, ArrayWriter, Mapped, Pages, map_arrays, touch
from model.id_index import ARRAYS, UNKNOWN, IdIndex, Ordinals
from model.query import App
from model.table_ids import RowIds, RowIndex

FIRST_CAPACITY = 64
ROWS_AT_ONCE = 256
"""Apps that a builder encodes between two pauses."""

PUT_AT_ONCE = 64
"""Apps that a serving process encodes in one go: within a millisecond or so its other threads have their turn."""

COLUMN, ID = "table.", "id."

Pick = Callable[[Tensor, Tensor], Tensor]


class AppTable:
    """The app part of every app put, by row. Append-only: a changed app gets a new row, and `index` then names it.

    One thread may put while others read: a row is complete before the index names it, and is never written again.
    A reader's rows stay valid after the tensors have moved to larger ones, since rows keep their numbers.
    """

    def __init__(self, side: AppSide, *, base: "Base | None" = None, capacity: int = 0) -> None:
        self.base_count = len(base.ids) if base else 0
        self._side, self._base, self._capacity = side, base, capacity
        self._fresh: Columns = {}
        self._fresh_ids: list[str] = []
        self._fresh_rows: dict[str, int] = {}

    def __len__(self) -> int:
        return self.base_count + len(self._fresh_ids)

    @property
    def ids(self) -> Sequence[str]:
        """The id of each row."""
        return RowIds(self._base.ids, self._fresh_ids) if self._base else self._fresh_ids

    @property
    def index(self) -> Mapping[str, int]:
        """The newest row of each app."""
        return RowIndex(self._base.ids, self._fresh_rows) if self._base else self._fresh_rows

    def rows_of(self, ids: Sequence[str]) -> Ordinals:
        """(n,) the newest row of each app, -1 for one that is not here."""
        newest = self._fresh_rows
        if not self._base:
            return np.fromiter((newest.get(app_id, UNKNOWN) for app_id in ids), dtype=np.int64, count=len(ids))
        rows = self._base.ids.find(ids)
        if not newest.keys().isdisjoint(ids):
            for place, app_id in enumerate(ids):
                if app_id in newest:
                    rows[place] = newest[app_id]
        return rows

    def gather(self, rows: Tensor, *, exact: bool | None) -> Gathered:
        """The rows (N,) int64; exact: every part in fp32, else the halved ones as bfloat16; None: without those."""
        return gathered(self._base.columns if self._base else self._fresh, self._taking(rows), exact=exact)

    def halved(self, name: str, rows: Tensor, *, exact: bool) -> Tensor:
        """One of the net's halved parts at `rows` (N,), in fp32 or as bfloat16."""
        return halved(name, self._taking(rows, picked if exact else fetched), exact=exact)

    def _taking(self, rows: Tensor, pick: Pick = picked) -> Callable[[str], Tensor]:
        fresh = self._fresh
        if not self._base:
            return lambda name: pick(fresh[name], rows)
        return self._base.taking(fresh, rows, pick)

    def put(self, apps: Sequence[App]) -> None:
        """Encode apps that are new or have changed, and publish them."""
        for start in range(0, len(apps), PUT_AT_ONCE):
            chunk = apps[start : start + PUT_AT_ONCE]
            self._append(self._side.columns(chunk), len(chunk))
            first = len(self)
            self._fresh_ids.extend(app.id for app in chunk)
            self._fresh_rows.update((app.id, first + place) for place, app in enumerate(chunk))

    def touch(self, pause: Callable[[], None], *, exact: bool) -> None:
        """Have what `gather` reads of the base mapped, in small steps with a pause after each. exact: see there.

        Otherwise the first to ask for an app would wait for its pages, which matters after a swap.
        """
        if self._base:
            read = (column for name, column in self._base.columns.items() if exact or not name.endswith(LOWER))
            touch(chain(map(torch.from_numpy, self._base.ids.arrays().values()), read), pause)

    def let_go(self, pause: Callable[[], None]) -> None:
        """Give the memory of the base back in small steps, with a pause after each; who still asks may, and waits."""
        if self._base:
            self._base.pages.let_go(pause)

    def only(self, rows: Sequence[int]) -> "AppTable":
        """A table of its own with the whole base and, of the rows put since, these alone, renumbered in this order.

        Nothing is encoded again, nor copied of the base; an app whose newer rows are left out is found there again.
        """
        table = AppTable(self._side, base=self._base)
        kept = [row - self.base_count for row in rows if row >= self.base_count]
        picked = torch.tensor(kept, dtype=torch.int64)
        table._fresh = {name: column.index_select(0, picked) for name, column in self._fresh.items()}
        table._fresh_ids = [self._fresh_ids[row] for row in kept]
        table._fresh_rows = {app_id: self.base_count + place for place, app_id in enumerate(table._fresh_ids)}
        return table

    def _append(self, added: Columns, count: int) -> None:
        first, last = len(self._fresh_ids), len(self._fresh_ids) + count
        if not self._fresh:
            self._fresh = {name: column.new_empty((0, *column.shape[1:])) for name, column in added.items()}
        if last > self._fresh[KEYS].shape[0]:
            rows = max(self._capacity, FIRST_CAPACITY, last if not first else 2 * last)
            self._fresh = {name: _grown(column, rows) for name, column in self._fresh.items()}
        for name, column in self._fresh.items():
            column[first:last] = added[name]


@dataclass(frozen=True)
class Base:
    """The rows that every process of a machine shares, mapped from files."""

    ids: IdIndex
    columns: Columns
    pages: Pages

    def taking(self, fresh: Columns, rows: Tensor, pick: Pick) -> Callable[[str], Tensor]:
        """Picks `rows` of a column by its name, those after the base from `fresh`."""
        after = rows >= len(self.ids)
        if not fresh or not after.any():
            return lambda name: pick(self.columns[name], rows)
        places = after.nonzero()[:, 0]
        old, new = rows.clamp(max=len(self.ids) - 1), rows[places] - len(self.ids)

        def take(name: str) -> Tensor:
            return pick(self.columns[name], old).index_copy_(0, places, pick(fresh[name], new))

        return take


def build_table(folder: Path, side: AppSide, apps: Iterable[Sequence[App]], *, pause: Callable[[], None]) -> None:
    """Write the base of a table to a folder of its own; `pause` is called after every ROWS_AT_ONCE apps."""
    with ArrayWriter(folder) as writer:
        count = write_table(writer, side, apps, pause=pause)
        writer.close({"count": count})


def write_table(writer: ArrayWriter, side: AppSide, apps: Iterable[Sequence[App]], *, pause: Callable[[], None]) -> int:
    """Add the base of a table to a folder that is being written, and say how many rows it has."""
    ids: list[str] = []
    for page in apps:
        for start in range(0, len(page), ROWS_AT_ONCE):
            chunk = page[start : start + ROWS_AT_ONCE]
            for name, column in side.columns(chunk).items():
                writer.append(COLUMN + name, column)
            ids += [app.id for app in chunk]
            pause()
    for name, array in IdIndex.of(ids).arrays().items():
        writer.append(ID + name, array)
    return len(ids)


def open_table(folder: Path, side: AppSide) -> AppTable:
    """A table over the base in a folder. Raises ArraysUnusable."""
    return mapped_table(map_arrays(folder), side, origin=str(folder))


def mapped_table(mapped: Mapped, side: AppSide, *, origin: str) -> AppTable:
    """A table over a base that `write_table` wrote, maybe among other arrays. Raises ArraysUnusable naming `origin`."""
    arrays = mapped.arrays
    try:
        ids = IdIndex.from_arrays({name: arrays[ID + name].numpy() for name in ARRAYS})
    except KeyError as error:
        raise ArraysUnusable(f"{origin} has no array {error}, which every table has; {ADVICE}") from error
    columns = {name.removeprefix(COLUMN): array for name, array in arrays.items() if name.startswith(COLUMN)}
    if not len(ids):
        return AppTable(side)
    if missing := side.needed - columns.keys():
        raise ArraysUnusable(f"{origin} has no {', '.join(sorted(missing))}, which this version needs; {ADVICE}")
    for name, column in columns.items():
        if len(column) != len(ids):
            raise ArraysUnusable(f"{origin} has {len(column)} rows of {name} where there are {len(ids)} ids; {ADVICE}")
    return AppTable(side, base=Base(ids, columns, mapped.pages))


def _grown(column: Tensor, rows: int) -> Tensor:
    larger = column.new_empty((rows, *column.shape[1:]))
    larger[: column.shape[0]] = column
    return larger
