"""Checkpoints that every rank writes its own shards of, and any number of ranks reads.

The tensors are safetensors files that torch.distributed.checkpoint writes and reads, the rest is JSON: nothing that is
read is a pickle. A checkpoint is written aside and renamed when every rank is done, so one that exists is whole.
"""

import json
import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from pydantic import TypeAdapter
from safetensors import SafetensorError
from torch import Tensor
from torch.distributed._shard.metadata import ShardMetadata
from torch.distributed._shard.sharded_tensor.api import ShardedTensor
from torch.distributed._shard.sharded_tensor.metadata import ShardedTensorMetadata, TensorProperties
from torch.distributed._shard.sharded_tensor.shard import Shard as TensorShard
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from model.causes import first_line
from model.sealed import sync
from model.sharded.errors import CheckpointUnusable, CheckpointUnwritten
from model.sharded.layout import Shard

FACTS = "facts.json"
LATEST, BEST = "latest", "best"
Facts = TypeVar("Facts")


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run, in a folder that every rank reaches: the latest, and the best epoch's."""

    folder: Path

    def save(self, name: str, tensors: Mapping[str, Tensor], shards: Sequence[Shard], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint in place of the former one of that name. Collective. Raises CheckpointUnwritten."""
        partial, writing = self.folder / f".{name}.partial", dist.get_rank() == 0
        try:
            if writing:
                shutil.rmtree(partial, ignore_errors=True)
                partial.mkdir(parents=True)
            dist.barrier()
            writer = HuggingFaceStorageWriter(str(partial), save_distributed=True)  # which flushes what it writes
            save(_distributed(tensors, shards), storage_writer=writer)
            if writing:
                (partial / FACTS).write_text(json.dumps(facts), encoding="utf-8")
                self._put(partial, name)
            dist.barrier()
        except (CheckpointException, OSError, SafetensorError) as error:
            raise CheckpointUnwritten(
                f"the checkpoint {self.folder / name} cannot be written ({_cause(error)}); make room there, and see "
                "that it is a folder that every rank reaches and may write to, then start again with the same config"
            ) from error

    def facts(self, name: str, kind: type[Facts]) -> Facts | None:
        """What was kept beside the tensors; None where there is no such checkpoint. Raises CheckpointUnusable."""
        try:
            found = self._place(name)
            return TypeAdapter(kind).validate_json((found / FACTS).read_bytes()) if found else None
        except (OSError, ValueError) as error:
            raise self._unusable(name, error) from error

    def load(self, name: str, tensors: Mapping[str, Tensor], shards: Sequence[Shard]) -> None:
        """Read a checkpoint into `tensors`, each rank its own rows, however many ranks wrote it. Collective."""
        try:
            load(_distributed(tensors, shards), storage_reader=HuggingFaceStorageReader(str(self._place(name))))
        except (CheckpointException, OSError, SafetensorError, KeyError) as error:
            raise self._unusable(name, error) from error

    def whole(self, name: str) -> dict[str, Tensor]:
        """Every tensor of a checkpoint in full, on the one rank that asks for it. Raises CheckpointUnusable."""
        place = self._place(name)
        try:
            if place is None:
                raise FileNotFoundError(name)
            reader = HuggingFaceStorageReader(str(place))
            known = reader.read_metadata().state_dict_metadata
            tensors = {
                key: torch.zeros(one.size, dtype=one.properties.dtype)
                for key, one in known.items()
                if isinstance(one, TensorStorageMetadata)
            }
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # that one process reads alone is meant
                load(dict(tensors), storage_reader=reader, no_dist=True)
        except (CheckpointException, OSError, SafetensorError, KeyError) as error:
            raise self._unusable(name, error) from error
        return tensors

    def remove(self) -> None:
        """Forget the run."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _put(self, partial: Path, name: str) -> None:
        """Give a checkpoint that is written whole its name; the one that had it is removed only then."""
        place, former = self.folder / name, self.folder / f".{name}.former"
        for one in (partial / FACTS, partial):
            sync(one)
        if place.exists():
            shutil.rmtree(former, ignore_errors=True)
            place.rename(former)
        partial.rename(place)
        sync(self.folder)
        shutil.rmtree(former, ignore_errors=True)

    def _place(self, name: str) -> Path | None:
        """Where a checkpoint is: aside, where a rename of its successor was cut short."""
        places = (self.folder / name, self.folder / f".{name}.former")
        return next((place for place in places if (place / FACTS).exists()), None)

    def _unusable(self, name: str, error: BaseException) -> CheckpointUnusable:
        return CheckpointUnusable(
            f"the checkpoint {self.folder / name} cannot be read ({_cause(error)}); remove {self.folder} to begin anew"
        )


def _cause(error: BaseException) -> str:
    """The first thing that went wrong, on whichever rank."""
    causes = error.failures.values() if isinstance(error, CheckpointException) else ()
    return first_line(next((cause for cause, _ in causes), error))


def _distributed(tensors: Mapping[str, Tensor], shards: Sequence[Shard]) -> dict[str, Any]:
    """The tensors as torch.distributed.checkpoint takes them: what has a row for each of a shard's is a part."""
    by_name = {shard.table.name: shard for shard in shards}
    found: dict[str, Any] = {}
    for name, tensor in tensors.items():
        shard = by_name.get(name.partition(".")[2].partition("/")[0])
        in_rows = shard is not None and tensor.dim() > 0 and tensor.shape[0] == len(shard.weight)
        found[name] = _part(tensor, shard) if shard is not None and in_rows else tensor
    return found


def _part(tensor: Tensor, shard: Shard) -> ShardedTensor:
    beside = list(tensor.shape[1:])
    every = [
        ShardMetadata([first, *[0] * len(beside)], [rows, *beside], f"rank:{rank}/cpu")
        for first, rows, rank in shard.everywhere
    ]
    size = torch.Size([shard.table.rows, *beside])
    whole = ShardedTensorMetadata(every, size, TensorProperties(dtype=tensor.dtype))
    mine = [one for one in every if one.shard_offsets[0] == shard.first and len(shard.weight)]
    local = [TensorShard(tensor, one) for one in mine]
    return ShardedTensor._init_from_local_shards_and_global_metadata(local, whole)
