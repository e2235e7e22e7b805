"""A split encoded once, crosses and all, in columns from which a batch is a few gathers.

The columns lie in memory, or in a folder of mapped arrays for a log that memory does not hold: they are written a
piece of the rows at a time, and what a batch touches is read from the file. Numbers of a row lie side by side, so that
a row of a shuffled batch is a page of each array.
"""

import errno
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from model.array_folder import ArraysUnusable, ArrayWriter, open_arrays
from model.batch import Bag, Batch, Pair, Side
from model.data.dataset import Dataset
from model.data.examples import Examples, RowEncoder
from model.schema import Kind
from model.train_config import TrainingFailed
from model.transforms import REQUEST_SOURCES, Transform

ROWS_AT_ONCE = 8192
INTS, FLOATS, LENGTHS = "ints", "floats", "lengths"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Sink(Protocol):
    """Where columns are put, chunk by chunk."""

    def append(self, name: str, rows: Tensor) -> None:
        """Add rows to the end of a column."""


class Held:
    """A sink in memory."""

    def __init__(self) -> None:
        self._chunks: dict[str, list[Tensor]] = {}

    def append(self, name: str, rows: Tensor) -> None:
        """Add rows to the end of a column."""
        self._chunks.setdefault(name, []).append(rows)

    def arrays(self) -> dict[str, Tensor]:
        """Every column by name."""
        return {name: torch.cat(chunks) for name, chunks in self._chunks.items()}


@dataclass(frozen=True)
class Layout:
    """What stands in which column. A cross has as many rows as one bag of the request's, or one.

    ids, dense: how many the request has; pair_dense: how many a pair has; bags: how many multi-valued fields the
    request has; own, pair: for each cross of the request's own fields, and each two-sided one, the bag it runs along,
    None for one row; wide: whether a row of the cross table needs 64 bits.
    """

    ids: int
    dense: int
    pair_dense: int
    bags: int
    own: tuple[int | None, ...]
    pair: tuple[int | None, ...]
    wide: bool

    @classmethod
    def of(cls, transform: Transform) -> Self:
        """Where a transform's values go."""
        schema, sizes = transform.schema, transform.sizes
        bags = [field.name for field in schema.of(*REQUEST_SOURCES, kind=Kind.MULTI)]
        sides = {field.name: field.source in REQUEST_SOURCES for field in schema.fields}
        along: dict[bool, list[int | None]] = {True: [], False: []}
        for cross in schema.crosses:
            if any(sides[name] for name in cross.fields):
                multi = [bags.index(name) for name in cross.fields if name in bags]
                along[all(sides[name] for name in cross.fields)].append(multi[0] if multi else None)
        return cls(
            len(sizes.request.ids), sizes.request.dense, sizes.pair_dense, len(bags),
            own=tuple(along[True]), pair=tuple(along[False]), wide=sizes.crosses > torch.iinfo(torch.int32).max,
        )  # fmt: skip

    def columns(self, examples: Examples, rows: Tensor) -> Iterator[tuple[str, Tensor]]:
        """The columns of the examples at `rows` by name: `ints`, `floats`, and of each bag `bag.0` and its lengths."""
        batch, whole = examples.batch(rows), torch.int64 if self.wide else torch.int32
        crosses = [*zip(self.own, batch.request.crosses, strict=True), *zip(self.pair, batch.pair.crosses, strict=True)]
        single = [bag.values for along, bag in crosses if along is None]
        position = torch.zeros_like(rows) if batch.position is None else batch.position
        ints = [*batch.request.ids.unbind(1), *single, examples.app_rows[rows], position]
        yield INTS, torch.stack(ints, 1).to(whole)
        yield FLOATS, torch.cat([batch.request.dense, batch.pair.dense, batch.label[:, None], batch.weight[:, None]], 1)
        for place, bag in enumerate(batch.request.bags):
            beside = [other.values for along, other in crosses if along == place]
            yield f"bag.{place}", torch.stack([bag.values, *beside], 1).to(whole)
            yield f"{LENGTHS}.{place}", bag.lengths


@dataclass(frozen=True)
class Encoded:
    """B encoded rows in columns.

    apps: the sides of all apps and revisions; ints: (B, ids + crosses of one row + 2) int32, the last two the app's
    row and the position; floats: (B, dense + pair dense + 2) float32, the last two label and weight; bags: of each
    bag its values and the rows of the crosses along it (V, 1 + crosses) int32, and where each row's begin (B + 1,).
    """

    layout: Layout
    apps: Side
    ints: Tensor
    floats: Tensor
    bags: tuple[tuple[Tensor, Tensor], ...]

    def __len__(self) -> int:
        return self.ints.shape[0]

    @property
    def label(self) -> Tensor:
        """(B,) float32."""
        return self.floats[:, -2]

    @property
    def position(self) -> Tensor:
        """(B,) each app's place in its list, from 1, 0 where it is not known."""
        return self.ints[:, -1]

    def batch(self, rows: Tensor) -> Batch:
        """The examples at `rows` (R,) int64, but for the halves of two-sided crosses, which are there as rows."""
        layout = self.layout
        ints, floats = self.ints.index_select(0, rows), self.floats.index_select(0, rows)
        picked = [_picked(values, starts, rows) for values, starts in self.bags]
        single = iter(ints[:, layout.ids : -2].long().unbind(1))
        beside = [iter(bags[1:]) for bags in picked]
        each = torch.arange(len(rows))
        own, pair = (
            tuple(Bag(next(single), each) if along is None else next(beside[along]) for along in crosses)
            for crosses in (layout.own, layout.pair)
        )
        dense, pair_dense, label, weight = torch.split(floats, [layout.dense, layout.pair_dense, 1, 1], dim=1)
        request = Side(ints[:, : layout.ids].long(), dense.contiguous(), tuple(bags[0] for bags in picked), own)
        app = self.apps.select(ints[:, -2].long())
        return Batch(request, app, Pair(pair_dense.contiguous(), pair), label[:, 0], weight[:, 0], ints[:, -1].long())


def _picked(values: Tensor, starts: Tensor, rows: Tensor) -> list[Bag]:
    """The bags at `rows` (R,), one for each column of `values` (V, C)."""
    first = starts[rows]
    lengths = starts[rows + 1] - first
    ends = lengths.cumsum(0)
    offsets = ends - lengths
    places = torch.arange(int(lengths.sum())) + (first - offsets).repeat_interleave(lengths)
    columns = values.index_select(0, places).t().long()
    return [Bag(column, offsets) for column in columns.contiguous().unbind(0)]


@dataclass(frozen=True)
class Encoder:
    """Encodes the splits of one dataset by one transform."""

    transform: Transform
    dataset: Dataset

    @cached_property
    def layout(self) -> Layout:
        """Of the columns."""
        return Layout.of(self.transform)

    @cached_property
    def rows(self) -> RowEncoder:
        """What encodes the pieces."""
        return RowEncoder(self.transform, self.dataset)

    @cached_property
    def apps(self) -> Side:
        """The sides of all apps and revisions, without the halves of two-sided crosses."""
        return replace(self.rows.apps, keys=())

    def held(self, split: str) -> Encoded:
        """A split's columns in memory."""
        held = Held()
        self._fill(_Writing(self.layout, held), split)
        return self._of(held.arrays())

    def kept(self, split: str, folder: Path, origin: Mapping[str, Any]) -> Encoded:
        """A split's columns in `folder`, those of the same `origin` where they stand there already.

        Raises TrainingFailed where the folder's disk has no room; what was written is removed then.
        """
        with suppress(ArraysUnusable):
            arrays, facts = open_arrays(folder, fixed=True)
            if facts == dict(origin):
                return self._of(arrays)
        with ArrayWriter(folder) as writer:
            writing = _Writing(self.layout, writer)
            try:
                self._fill(writing, split)
                writer.close(origin)
            except OSError as error:
                if error.errno not in NO_ROOM:
                    raise
                raise TrainingFailed(writing.no_room(folder, of=self.dataset.count(split))) from error
        return self._of(open_arrays(folder, fixed=True)[0])

    def _fill(self, writing: "_Writing", split: str) -> None:
        for rows in self.dataset.pieces(split):
            writing.add(self.rows.examples(rows))

    def _of(self, arrays: Mapping[str, Tensor]) -> Encoded:
        bags = tuple((arrays[f"bag.{place}"], arrays[f"starts.{place}"]) for place in range(self.layout.bags))
        return Encoded(self.layout, self.apps, arrays[INTS], arrays[FLOATS], bags)


class _Writing:
    """Columns under way. rows, size: how many rows there are so far, and how many bytes they take."""

    def __init__(self, layout: Layout, sink: Sink) -> None:
        self._layout, self._sink = layout, sink
        self._values = [0] * layout.bags
        self.rows = self.size = 0
        for place in range(layout.bags):
            self._put(f"starts.{place}", torch.zeros(1, dtype=torch.int64))

    def add(self, examples: Examples) -> None:
        """Put the columns of these rows after those before."""
        for start in range(0, max(len(examples), 1), ROWS_AT_ONCE):
            rows = torch.arange(start, min(start + ROWS_AT_ONCE, len(examples)))
            for name, column in self._layout.columns(examples, rows):
                kind, _, place = name.partition(".")
                if kind == LENGTHS:
                    column = column.cumsum(0) + self._values[int(place)]
                    self._values[int(place)] = int(column[-1]) if len(column) else self._values[int(place)]
                self._put(name.replace(LENGTHS, "starts"), column)
            self.rows += len(rows)

    def no_room(self, folder: Path, *, of: int) -> str:
        """What to say where the disk is full, of as many rows as there are."""
        needed = self.size * of // max(self.rows, 1)
        return (
            f"the disk of {folder} has no room for the encoded rows: {self.rows} of {of} took {self.size >> 20} MiB, "
            f"so about {needed >> 20} MiB are needed; make room or put the home on another disk"
        )

    def _put(self, name: str, column: Tensor) -> None:
        self._sink.append(name, column)
        self.size += column.nbytes
