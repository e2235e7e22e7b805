"""The app side of a net, computed once per app and version: what makes a candidate cheap to score."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from model.batch import Bag, Side
from model.layers import Part
from model.query import App

FIRST_CAPACITY = 64
APPS_AT_ONCE = 8192

AppSide = Callable[[Sequence[App]], tuple[Side, Part]]


class AppTable:
    """The app part of every app put, by row. Append-only: a changed app gets a new row, and `index` then names it.

    One thread may put while others read: a row is complete before the index names it, and is never written again.
    A reader's rows stay valid after the tensors have moved to larger ones, since rows keep their numbers.
    """

    def __init__(self, app_side: AppSide, apps: Sequence[App], *, capacity: int = 0) -> None:
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self._app_side = app_side
        self._columns: tuple[Tensor, ...] = ()
        self._names: tuple[str, ...] = ()
        self._capacity = max(capacity, len(apps))
        self.put(apps)

    def __len__(self) -> int:
        return len(self.ids)

    def put(self, apps: Sequence[App]) -> None:
        """Encode apps that are new or have changed, and publish them."""
        for start in range(0, len(apps), APPS_AT_ONCE):
            chunk = apps[start : start + APPS_AT_ONCE]
            side, part = self._app_side(chunk)
            self._append(part, [bag.values for bag in side.keys])
            first = len(self.ids)
            self.ids.extend(app.id for app in chunk)
            self.index.update((app.id, first + place) for place, app in enumerate(chunk))

    def gather(self, rows: Tensor) -> tuple[Part, tuple[Bag, ...]]:
        """The app part and the halves of the two-sided crosses of `rows` (N,), each (N, ...)."""
        columns = [column.index_select(0, rows) for column in self._columns]
        keys = tuple(Bag(column, torch.arange(len(rows))) for column in columns[len(self._names) :])
        return dict(zip(self._names, columns, strict=False)), keys

    def only(self, rows: Sequence[int]) -> "AppTable":
        """A table of its own with these rows, in this order; nothing is encoded again."""
        table = AppTable(self._app_side, ())
        picked = torch.tensor(rows, dtype=torch.int64)
        table._names = self._names
        table._columns = tuple(column.index_select(0, picked) for column in self._columns)
        table.ids = [self.ids[row] for row in rows]
        table.index = {app_id: place for place, app_id in enumerate(table.ids)}
        return table

    def _append(self, part: Part, keys: Sequence[Tensor]) -> None:
        fresh = (*part.values(), *keys)
        first, last = len(self.ids), len(self.ids) + fresh[0].shape[0]
        if not self._columns:
            self._names = tuple(part)
            self._columns = tuple(column.new_empty((0, *column.shape[1:])) for column in fresh)
        if last > self._columns[0].shape[0]:
            rows = max(self._capacity, FIRST_CAPACITY, last if not first else 2 * last)
            self._columns = tuple(_grown(column, rows) for column in self._columns)
        for column, added in zip(self._columns, fresh, strict=True):
            column[first:last] = added


def _grown(column: Tensor, rows: int) -> Tensor:
    larger = column.new_empty((rows, *column.shape[1:]))
    larger[: column.shape[0]] = column
    return larger
