"""What a sharded training is to do, and what it cannot."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist

from model.sharded.errors import NotDistributed
from model.sharded.layout import Layout
from model.sharded.shards import Shards
from model.train_config import TrainConfig
from model.zoo import ARCHITECTURES, check_params


@dataclass(frozen=True)
class Plan:
    """What is trained, on what, and how it lies. every: steps from one checkpoint to the next; folder: of all runs."""

    config: TrainConfig
    shards: Shards
    folder: Path
    layout: Layout = field(default_factory=Layout)
    every: int = 500

    @property
    def place(self) -> Path:
        """The folder of this plan's checkpoints and no other's: the same shards and config go on where they were."""
        what = [one.model_dump(mode="json") for one in (self.shards.contents, self.config)]
        return self.folder / _digest(json.dumps(what, sort_keys=True)).hex()[:12]

    def check(self, ranks: int) -> None:
        """Refuse what cannot be trained on so many ranks.

        Raises NotDistributed, TrainingFailed, UnknownArchitecture and ShardsUnusable.
        """
        config = self.config
        self.shards.mine(0, ranks)
        params = check_params(config.architecture, config.net_params()).model_dump()
        first = ARCHITECTURES[config.architecture].pretrained
        if first is not None and (epochs := params["pretrain_epochs"]):
            raise NotDistributed(
                f"architecture {config.architecture} has pretrain_epochs {epochs}: it begins from an {first} that is "
                "trained first, which is done on one machine only; set its parameter pretrain_epochs to 0, or run "
                f"`appshelf train --arch {config.architecture}`"
            )
        if config.device == "cuda":
            raise NotDistributed("device cuda is for one machine; ranks train on their processors (auto or cpu)")
        if config.batch_size < ranks:
            raise NotDistributed(f"a batch of {config.batch_size} rows is too few for {ranks} ranks; each needs a row")

    def check_alike(self) -> None:
        """Refuse ranks that were given different things, which would wait for each other in vain. Collective.

        Raises NotDistributed.
        """
        mine = torch.tensor([*_digest(repr((self.place.name, self.layout, self.every)))], dtype=torch.uint8)
        found = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
        dist.all_gather(found, mine)
        if odd := [str(rank) for rank, one in enumerate(found) if not torch.equal(one, found[0])]:
            raise NotDistributed(
                f"rank {', '.join(odd)} has another config, other shards or other options than rank 0; give the same "
                "to all ranks, and have them read one home"
            )


def _digest(what: str) -> bytes:
    return hashlib.sha256(what.encode()).digest()
