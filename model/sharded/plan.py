"""What a sharded training is to do, and what it cannot."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from model.sharded.errors import NotDistributed
from model.sharded.layout import Layout
from model.sharded.shards import Shards
from model.train_config import TrainConfig
from model.zoo import ARCHITECTURES


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
        """The folder of this plan's checkpoints and no other's: the same data and config go on where they were."""
        what = json.dumps([self.shards.contents.data, self.config.model_dump(mode="json")], sort_keys=True)
        return self.folder / hashlib.sha256(what.encode()).hexdigest()[:12]

    def check(self, ranks: int) -> None:
        """Raise NotDistributed, TrainingFailed or ShardsUnusable for what cannot be trained on so many ranks."""
        config = self.config
        self.shards.mine(0, ranks)
        config.built_recipe()
        if (family := ARCHITECTURES.get(config.architecture)) is not None and family.pretrained is not None:
            pretrained = config.net_params().get("pretrain_epochs")
            if pretrained != 0:
                raise NotDistributed(
                    f"{config.architecture} begins from a trained {family.pretrained}, which is done on one machine "
                    "only; give it pretrain_epochs: 0, or run `appshelf train`"
                )
        if config.device == "cuda":
            raise NotDistributed("device cuda is for one machine; ranks train on their processors (auto or cpu)")
        if config.batch_size < ranks:
            raise NotDistributed(f"a batch of {config.batch_size} rows is too few for {ranks} ranks; each needs a row")
