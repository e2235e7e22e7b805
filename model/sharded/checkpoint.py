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
from typing import Any

import torch
import torch.distributed as dist
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

from model.sharded.errors import CheckpointUnusable
from model.sharded.layout import Shard

FACTS = "facts.json"
LATEST, BEST = "latest", "best"


@dataclass(frozen=True)
class Checkpoints:
    """The checkpoints of one run, in a folder that every rank reaches: the latest, and the best epoch's."""

    folder: Path

    def save(self, name: str, tensors: Mapping[str, Tensor], shards: Sequence[Shard], facts: Mapping[str, Any]) -> None:
        """Write a checkpoint in place of the former one of that name. Collective."""
        partial, place = self.folder / f".{name}.partial", self.folder / name
        if dist.get_rank() == 0:
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
        dist.barrier()
        save(
            _distributed(tensors, shards), storage_writer=HuggingFaceStorageWriter(str(partial), save_distributed=True)
        )
        dist.barrier()
        if dist.get_rank() == 0:
            (partial / FACTS).write_text(json.dumps(facts), encoding="utf-8")
            former = self.folder / f".{name}.former"
            shutil.rmtree(former, ignore_errors=True)
            if place.exists():
                place.rename(former)
            partial.rename(place)
            shutil.rmtree(former, ignore_errors=True)
        dist.barrier()

    def facts(self, name: str) -> dict[str, Any] | None:
        """What was kept beside the tensors; None where there is no such checkpoint. Raises CheckpointUnusable."""
        try:
            found = self._place(name)
            return dict(json.loads((found / FACTS).read_text(encoding="utf-8"))) if found else None
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

    def _place(self, name: str) -> Path | None:
        """Where a checkpoint is: aside, where a rename of its successor was cut short."""
        places = (self.folder / name, self.folder / f".{name}.former")
        return next((place for place in places if (place / FACTS).exists()), None)

    def _unusable(self, name: str, error: BaseException) -> CheckpointUnusable:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        return CheckpointUnusable(
            f"the checkpoint {self.folder / name} cannot be read ({first}); remove it to begin anew"
        )


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
