"""Encoded examples as rows of a table, so that they can lie in Parquet: everything a net reads of a row, in the row."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from model.batch import Bag, Batch, Pair, Side

LENGTHS, VALUES = "lengths", "values"
SIDES = ("request", "app")


@dataclass(frozen=True)
class Widths:
    """How many ids, continuous values, multi-valued fields and crosses each part of a row has."""

    request: tuple[int, int, int, int] = (0, 0, 0, 0)
    app: tuple[int, int, int, int] = (0, 0, 0, 0)
    pair: tuple[int, int] = (0, 0)

    @classmethod
    def of(cls, batch: Batch) -> "Widths":
        """Of a batch's rows."""
        sides = [
            (side.ids.shape[1], side.dense.shape[1], len(side.bags), len(side.crosses))
            for side in (batch.request, batch.app)
        ]
        return cls(sides[0], sides[1], (batch.pair.dense.shape[1], len(batch.pair.crosses)))


def frame_of(batch: Batch) -> pl.DataFrame:
    """A row for each example: arrays `request.ids` and `request.dense`, lists `request.values` of all its bags' ids one
    after the other, and their `request.lengths`; of the app and the pair the like; label, weight and position.

    The halves of two-sided crosses are left out: the crosses are there.
    """
    columns: dict[str, pl.Series] = {}
    for name, side in zip(SIDES, (batch.request, batch.app), strict=True):
        columns |= _array(f"{name}.ids", side.ids) | _array(f"{name}.dense", side.dense)
        columns |= _lists(name, (*side.bags, *side.crosses), len(batch))
    columns |= _array("pair.dense", batch.pair.dense) | _lists("pair", batch.pair.crosses, len(batch))
    position = torch.zeros(len(batch), dtype=torch.int64) if batch.position is None else batch.position
    columns |= {"label": pl.Series(batch.label.numpy()), "weight": pl.Series(batch.weight.numpy())}
    return pl.DataFrame(columns | {"position": pl.Series(position.to(torch.int32).numpy())})


def batch_of(frame: pl.DataFrame, widths: Widths) -> Batch:
    """Undo `frame_of`."""
    rows = len(frame)

    def array(name: str, width: int, dtype: torch.dtype) -> Tensor:
        if not width:
            return torch.empty(rows, 0, dtype=dtype)
        return torch.from_numpy(frame[name].to_numpy(writable=True).reshape(rows, width)).to(dtype)

    sides = []
    for name, (ids, dense, bags, crosses) in zip(SIDES, (widths.request, widths.app), strict=True):
        held = _bags(frame, name, bags + crosses)
        single = array(f"{name}.ids", ids, torch.int64), array(f"{name}.dense", dense, torch.float32)
        sides.append(Side(*single, held[:bags], held[bags:]))
    pair = Pair(array("pair.dense", widths.pair[0], torch.float32), _bags(frame, "pair", widths.pair[1]))
    label, weight, position = (
        torch.from_numpy(frame[name].to_numpy(writable=True)) for name in ("label", "weight", "position")
    )
    return Batch(sides[0], sides[1], pair, label.float(), weight.float(), position.long())


def selected(batch: Batch, rows: Tensor) -> Batch:
    """The examples at `rows` (R,) int64, in that order."""
    pair = Pair(batch.pair.dense[rows], tuple(bag.select(rows) for bag in batch.pair.crosses))
    position = None if batch.position is None else batch.position[rows]
    request, app = batch.request.select(rows), batch.app.select(rows)
    return Batch(request, app, pair, batch.label[rows], batch.weight[rows], position)


def joined(batches: Sequence[Batch]) -> Batch:
    """Batches of the same widths one after the other."""
    if len(batches) == 1:
        return batches[0]
    request, app = _joined_sides([one.request for one in batches]), _joined_sides([one.app for one in batches])
    pairs = [one.pair for one in batches]
    pair = Pair(torch.cat([one.dense for one in pairs]), _joined_bags([one.crosses for one in pairs]))
    position = torch.cat([torch.zeros(len(one)).long() if one.position is None else one.position for one in batches])
    label, weight = torch.cat([one.label for one in batches]), torch.cat([one.weight for one in batches])
    return Batch(request, app, pair, label, weight, position)


def weightless(batch: Batch) -> Batch:
    """The same rows, counting nothing."""
    return replace(batch, weight=torch.zeros_like(batch.weight))


def _joined_sides(sides: Sequence[Side]) -> Side:
    ids, dense = torch.cat([side.ids for side in sides]), torch.cat([side.dense for side in sides])
    return Side(ids, dense, _joined_bags([side.bags for side in sides]), _joined_bags([side.crosses for side in sides]))


def _joined_bags(bags: Sequence[tuple[Bag, ...]]) -> tuple[Bag, ...]:
    found = []
    for parts in zip(*bags, strict=True):
        lengths = torch.cat([part.lengths for part in parts])
        found.append(Bag(torch.cat([part.values for part in parts]), lengths.cumsum(0) - lengths))
    return tuple(found)


def _array(name: str, values: Tensor) -> dict[str, pl.Series]:
    """A column of arrays, none where they would be empty; whole numbers in as many bits as they need."""
    if not values.shape[1]:
        return {}
    return {name: pl.Series(_narrow(values.numpy()))}


def _lists(name: str, bags: Sequence[Bag], rows: int) -> dict[str, pl.Series]:
    """The bags of each row as one list, and as an array how many ids are of each bag."""
    if not bags:
        return {}
    lengths = torch.stack([bag.lengths for bag in bags], dim=1)
    owners = torch.cat([torch.arange(rows).repeat_interleave(count) for count in lengths.unbind(1)])
    order = owners.argsort(stable=True)
    values = _narrow(torch.cat([bag.values for bag in bags])[order].numpy())
    grouped = pl.DataFrame({"row": owners[order].numpy(), VALUES: values}).group_by("row", maintain_order=True)
    lists = pl.DataFrame({"row": np.arange(rows)}).join(
        grouped.agg(VALUES), on="row", how="left", maintain_order="left"
    )
    return {f"{name}.{LENGTHS}": pl.Series(_narrow(lengths.numpy())), f"{name}.{VALUES}": lists[VALUES]}


def _bags(frame: pl.DataFrame, name: str, count: int) -> tuple[Bag, ...]:
    return tuple(_each_bag(frame, name, count)) if count else ()


def _each_bag(frame: pl.DataFrame, name: str, count: int) -> Iterator[Bag]:
    lengths = torch.from_numpy(frame[f"{name}.{LENGTHS}"].to_numpy(writable=True).reshape(len(frame), count)).long()
    flat = frame[f"{name}.{VALUES}"].explode(empty_as_null=False).drop_nulls().cast(pl.Int64).to_numpy(writable=True)
    values, of_row = torch.from_numpy(flat), torch.arange(count).repeat(len(frame))
    owners = of_row.repeat_interleave(lengths.flatten())
    for place, ends in enumerate(lengths.cumsum(0).unbind(1)):
        yield Bag(values[owners == place], ends - lengths[:, place])


def _narrow(values: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """Whole numbers that fit into 32 bits in 32 bits; all else as it is."""
    fits = values.dtype == np.int64 and (not values.size or int(values.max()) <= np.iinfo(np.int32).max)
    return values.astype(np.int32) if fits else values
