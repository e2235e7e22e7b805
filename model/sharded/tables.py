"""Which parameters of a net are tables, one row an id, and what a batch asks of each of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor, nn

from model.batch import Bag, Batch, FieldSize, Pair, Side, Sizes
from model.blocks import Per, axes_of
from model.layers import FieldEmbedding, Wide, WideSide
from model.sharded.errors import Unshardable

CROSSES = "#crosses"
"""What the cross table's rows go by among the fields; no field has a name like it."""


@dataclass(frozen=True)
class Table:
    """One parameter whose rows belong to ids.

    name: of the parameter in the net; fields: whose its rows are, from the first on; offsets: the name of the buffer
    that says where each field's rows begin, None where there is but one field.
    """

    name: str
    rows: int
    width: int
    fields: tuple[str, ...]
    offsets: str | None


def tables_of(net: nn.Module) -> tuple[Table, ...]:
    """The tables of a net, which may be on the meta device; those without any rows of ids are left out.

    Raises Unshardable where a parameter has a row an id and its layer is none of FieldEmbedding, WideSide and Wide.
    """
    tables = tuple(table for path, module in net.named_modules() for table in _tables_in(path and f"{path}.", module))
    by_id = {name for name, axes in axes_of(net).items() if any(b.per in (Per.VALUE, Per.KEY) for b in axes.get(0, ()))}
    if strange := sorted(by_id - {table.name for table in tables}):
        raise Unshardable(
            f"{', '.join(strange)}: rows of ids outside FieldEmbedding, WideSide and Wide cannot be sharded; train "
            "this family on one machine"
        )
    return tables


def _tables_in(path: str, module: nn.Module) -> Iterator[Table]:
    """The tables that a layer holds itself."""
    match module:
        case FieldEmbedding():
            for place, (group, table) in enumerate(zip(module.groups, module.tables, strict=True)):
                names = tuple(module.fields[member].name for member in group)
                yield Table(f"{path}tables.{place}", table.shape[0], table.shape[1], names, f"{path}offsets_{place}")
        case WideSide() if module.rows:
            names = tuple(block.owner for block in module.rows)
            yield Table(f"{path}table", module.table.shape[0], 1, names, f"{path}offsets")
        case Wide() if module.crosses is not None:
            yield Table(f"{path}crosses", module.crosses.shape[0], 1, (CROSSES,), None)


@dataclass(frozen=True)
class Asked:
    """A batch in ids of its own: those it holds, counted from 0 in each field.

    rows: by table, the rows (U,) int64 that the batch's ids stand for; buffers: by name, where each field's begin.
    """

    batch: Batch
    rows: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]


class Renumbering:
    """Gives each batch ids of its own, so that a net runs on the few rows that the batch asks for.

    A net looks up `table[offset of field + id]`. With the table cut to the asked rows, the offsets to their counts and
    the ids renumbered within their field, it computes the same, whichever net it is.
    """

    def __init__(self, sizes: Sizes, tables: Sequence[Table]) -> None:
        sides = (*sizes.request.ids, *sizes.request.bags, *sizes.app.ids, *sizes.app.bags)
        fields = (*sides, FieldSize(CROSSES, max(sizes.crosses, 1)))
        self._places = {field.name: place for place, field in enumerate(fields)}
        if len(self._places) != len(fields):
            raise Unshardable("two fields of one name; give each field of the schema a name of its own")
        self._starts = torch.tensor([0, *accumulate(field.size for field in fields)], dtype=torch.int64)
        self._sizes, self._tables = sizes, tables
        self._begins = {table.name: self._within(table) for table in tables}

    def __call__(self, batch: Batch) -> Asked:
        """The batch renumbered. It asks for no row that it holds no id of, and so for none of some tables.

        An optimizer that shrinks the rows that a gradient names is to shrink those that the batch holds.
        """
        parts = self._parts(batch)
        everything = torch.cat([part.flatten() for part in parts])
        found, renumbered = torch.unique(everything, return_inverse=True)
        bounds = torch.searchsorted(found, self._starts)
        within = renumbered - bounds[torch.searchsorted(self._starts, everything, right=True) - 1]
        counts, bounds_at = bounds.diff().tolist(), bounds.tolist()
        rows, buffers = {}, {}
        for table in self._tables:
            places = [self._places[name] for name in table.fields]
            slices = [found[bounds_at[place] : bounds_at[place + 1]] for place in places]
            shifts = self._begins[table.name]
            rows[table.name] = torch.cat([part + shift for part, shift in zip(slices, shifts, strict=True)])
            if table.offsets is not None:
                starts = [0, *accumulate(counts[place] for place in places)][: len(places)]
                buffers[table.offsets] = torch.tensor(starts, dtype=torch.int64)
        return Asked(_with(batch, within.split([part.numel() for part in parts])), rows, buffers)

    def _parts(self, batch: Batch) -> list[Tensor]:
        """Every id that the batch holds, each field's in a range of its own, in the order that `_with` reads."""
        parts, place = [], 0
        for side in (batch.request, batch.app):
            width = side.ids.shape[1]
            parts.append(side.ids + self._starts[place : place + width])
            bags = enumerate(side.bags, start=place + width)
            parts += [bag.values + self._starts[at] for at, bag in bags]
            place += width + len(side.bags)
        crosses = (*batch.request.crosses, *batch.app.crosses, *batch.pair.crosses)
        return [*parts, *(bag.values + self._starts[place] for bag in crosses)]

    def _within(self, table: Table) -> list[int]:
        """What turns an id of each field in the range of its own into its row of the table."""
        starts = self._starts.tolist()
        sizes = [starts[self._places[name] + 1] - starts[self._places[name]] for name in table.fields]
        begins = [0, *accumulate(sizes)]
        return [begin - starts[self._places[name]] for begin, name in zip(begins, table.fields, strict=False)]


def _with(batch: Batch, parts: Sequence[Tensor]) -> Batch:
    """The batch with other ids, one part for each that `Renumbering._parts` gave."""
    waiting = iter(parts)

    def side(old: Side) -> Side:
        ids = next(waiting).view_as(old.ids)
        return replace(old, ids=ids, bags=tuple(Bag(next(waiting), bag.offsets) for bag in old.bags))

    request, app = side(batch.request), side(batch.app)
    own, theirs, both = (
        tuple(Bag(next(waiting), bag.offsets) for bag in bags)
        for bags in (batch.request.crosses, batch.app.crosses, batch.pair.crosses)
    )
    request, app = replace(request, crosses=own), replace(app, crosses=theirs)
    return replace(batch, request=request, app=app, pair=Pair(batch.pair.dense, both))
