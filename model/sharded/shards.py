"""A dataset encoded once and cut into shards of Parquet, which ranks share out among themselves."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Literal

import polars as pl
import torch
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors import SafetensorError
from safetensors import numpy as arrays_format

from model.batch import Batch
from model.causes import first_line
from model.data.dataset import Dataset
from model.data.examples import RowEncoder
from model.data.stored import Rows
from model.data.stored_past import keep_past
from model.fitting import fit
from model.position import MOST
from model.schema import SchemaError, dump_schema, read_schema
from model.sharded.errors import ShardsUnusable
from model.sharded.frames import Widths, batch_of, frame_of, joined, selected
from model.transforms import Transform

SHARDS = "shards.json"
Split = Literal["train", "stop"]
SPLITS: tuple[Split, ...] = ("train", "stop")
ROWS_AT_ONCE = 8192
AGAIN = "run `appshelf shard` again"


class Contents(BaseModel):
    """What the shards hold; written last, so that shards without it do not exist.

    data: the dataset's fingerprint; seed: of which row went into which shard; rows: by split, of each shard;
    positions: by position, how many rows of training.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    data: str
    seed: int
    rows: Mapping[Split, tuple[int, ...]]
    widths: Widths
    positions: tuple[int, ...]


@dataclass(frozen=True)
class Shards:
    """Shards in a folder, a folder a shard: `train/00003/00000.parquet` has its part of the first piece of the log."""

    folder: Path
    contents: Contents

    @classmethod
    def open(cls, folder: Path) -> "Shards":
        """Raises ShardsUnusable where there are none or what they hold cannot be read."""
        try:
            return cls(folder, Contents.model_validate_json((folder / SHARDS).read_bytes()))
        except FileNotFoundError as error:
            raise ShardsUnusable(f"{folder} holds no shards; run `appshelf shard`") from error
        except (OSError, ValidationError) as error:
            raise ShardsUnusable(f"{folder / SHARDS} cannot be read ({first_line(error)}); {AGAIN}") from error

    def __len__(self) -> int:
        return len(self.contents.rows["train"])

    @cached_property
    def transform(self) -> Transform:
        """What the rows were encoded by. Raises ShardsUnusable."""
        try:
            schema = read_schema(self.folder / "schema.yaml")
            texts = json.loads((self.folder / "transform.json").read_bytes())
            arrays = arrays_format.load((self.folder / "transform.safetensors").read_bytes())
            return Transform.from_state(schema, texts, arrays)
        except (OSError, SchemaError, SafetensorError, KeyError, ValueError) as error:
            raise ShardsUnusable(
                f"the transform in {self.folder} cannot be read ({first_line(error)}); {AGAIN}"
            ) from error

    def mine(self, rank: int, ranks: int) -> tuple[int, ...]:
        """The shards that a rank reads, in turn with the others. Raises ShardsUnusable where there are too few."""
        if len(self) < ranks:
            raise ShardsUnusable(
                f"{self.folder} holds {len(self)} shards for {ranks} ranks; run `appshelf shard --count {4 * ranks}`"
            )
        return tuple(range(rank, len(self), ranks))

    def read(self, split: Split, shard: int) -> Batch:
        """All rows of one shard. Raises ShardsUnusable where a file is missing or damaged."""
        place = self.folder / split / f"{shard:05}"
        try:
            frames = [pl.read_parquet(file) for file in sorted(place.glob("*.parquet"))]
            batch = joined([batch_of(frame, self.contents.widths) for frame in frames])
        except (OSError, pl.exceptions.PolarsError, ValueError, IndexError) as error:
            raise ShardsUnusable(f"{place} cannot be read ({first_line(error)}); {AGAIN}") from error
        if len(batch) != (promised := self.contents.rows[split][shard]):
            raise ShardsUnusable(f"{place} holds {len(batch)} rows where {promised} were written; {AGAIN}")
        return batch


def write_shards(dataset: Dataset, folder: Path, *, count: int, seed: int = 0) -> Shards:
    """Fit a transform, and encode the train and stop splits into `count` shards, every row drawn into one of them.

    One piece of the log is in memory at a time, and its events lie in the folder meanwhile. Raises ShardsUnusable where
    a shard would hold no row, and TrainingFailed where the disk has no room for the events; what stood in the folder
    stays as it was after the former.
    """
    for split in SPLITS:
        if (rows := dataset.count(split)) < count:
            raise ShardsUnusable(f"the {split} split has {rows} rows for {count} shards; ask for {rows} or fewer")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data = replace(dataset, examples=Rows.of(dataset))  # type: ignore[arg-type]  # see Rows
    keep_past(data, folder / "events")
    transform = fit(data.schema, data)
    _write_transform(transform, folder)
    writing = _Writing(folder, count, torch.Generator().manual_seed(seed))
    encoder = RowEncoder(transform, data)
    for split in SPLITS:
        for piece, batch in enumerate(_batches(encoder, split)):
            writing.add(split, piece, batch)
    shutil.rmtree(folder / "events", ignore_errors=True)
    contents = writing.contents(dataset.fingerprint(), seed)
    (folder / SHARDS).write_text(contents.model_dump_json(), encoding="utf-8")
    return Shards(folder, contents)


def _write_transform(transform: Transform, folder: Path) -> None:
    """What `Shards.transform` reads."""
    texts, arrays = transform.to_state()
    (folder / "schema.yaml").write_text(dump_schema(transform.schema), encoding="utf-8")
    (folder / "transform.json").write_text(json.dumps(texts), encoding="utf-8")
    (folder / "transform.safetensors").write_bytes(arrays_format.save(arrays))


def _batches(encoder: RowEncoder, split: str) -> Iterator[Batch]:
    """The encoded rows of a split, a piece of the log at a time."""
    for rows in encoder.dataset.pieces(split):
        examples = encoder.examples(rows)
        each = torch.split(torch.arange(len(examples)), ROWS_AT_ONCE)
        yield joined([examples.batch(part) for part in each])


class _Writing:
    """Shards under way."""

    def __init__(self, folder: Path, count: int, draw: torch.Generator) -> None:
        self._folder, self._count, self._draw = folder, count, draw
        self._rows: dict[Split, list[int]] = {"train": [0] * count, "stop": [0] * count}
        self._positions = torch.zeros(MOST + 1, dtype=torch.int64)
        self._widths = Widths()

    def add(self, split: Split, piece: int, batch: Batch) -> None:
        """Deal a piece's rows out in random order, the next one to the shard that has fewest."""
        self._widths = Widths.of(batch)
        if split == "train" and batch.position is not None:
            self._positions += torch.bincount(batch.position.clamp(0, MOST), minlength=MOST + 1)
        order = torch.randperm(len(batch), generator=self._draw)
        first = sum(self._rows[split]) % self._count
        for place in range(self._count):
            rows = order[(place - first) % self._count :: self._count]
            shard = self._folder / split / f"{place:05}"
            shard.mkdir(parents=True, exist_ok=True)
            frame_of(selected(batch, rows)).write_parquet(shard / f"{piece:05}.parquet")
            self._rows[split][place] += len(rows)

    def contents(self, data: str, seed: int) -> Contents:
        """What was written. data, seed: see `Contents`."""
        rows = {split: tuple(counts) for split, counts in self._rows.items()}
        positions = tuple(self._positions.tolist())
        return Contents(data=data, seed=seed, rows=rows, widths=self._widths, positions=positions)
