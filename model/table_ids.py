"""The ids of a table whose base is mapped: as a sequence by row and as a mapping to rows, without an object an app."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import overload

from model.id_index import UNKNOWN, IdIndex


@dataclass(frozen=True)
class RowIds(Sequence[str]):
    """A table's ids by row; those of the base are made as they are asked for."""

    base: IdIndex
    fresh: Sequence[str]

    @overload
    def __getitem__(self, row: int) -> str: ...

    @overload
    def __getitem__(self, row: slice) -> list[str]: ...

    def __getitem__(self, row: int | slice) -> str | list[str]:
        if isinstance(row, slice):
            return [self[one] for one in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        return self.base.id_at(row) if row < len(self.base) else self.fresh[row - len(self.base)]

    def __len__(self) -> int:
        return len(self.base) + len(self.fresh)


@dataclass(frozen=True)
class RowIndex(Mapping[str, int]):
    """The newest row of each app of a table."""

    base: IdIndex
    fresh: Mapping[str, int]

    def __getitem__(self, app_id: str) -> int:
        if app_id in self.fresh:
            return self.fresh[app_id]
        row = int(self.base.find([app_id])[0])
        if row == UNKNOWN:
            raise KeyError(app_id)
        return row

    def __iter__(self) -> Iterator[str]:
        yield from (self.base.id_at(row) for row in range(len(self.base)))
        yield from self._added

    def __len__(self) -> int:
        return len(self.base) + len(self._added)

    @property
    def _added(self) -> list[str]:
        ids = list(self.fresh)
        return [app_id for app_id, row in zip(ids, self.base.find(ids).tolist(), strict=True) if row == UNKNOWN]
