"""FuxiCTR's WideDeep on its own layers, loader and loop; the model is that of its model zoo, which pip does not bring.

It embeds every continuous value, so its network is the others' only where there are none.
"""

import tempfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from fuxictr.features import FeatureMap
from fuxictr.pytorch.dataloaders.npz_dataloader import NpzDataLoader
from fuxictr.pytorch.layers import FeatureEmbedding, LogisticRegression, MLP_Block
from fuxictr.pytorch.models import BaseModel
from torch import Tensor

from bench.peers.train_rows import WARM, Rows, given, measured

SETTINGS = {"verbose": 0, "metrics": ["AUC"], "gpu": -1, "optimizer": "adam", "loss": "binary_crossentropy"}


class WideDeep(BaseModel):  # type: ignore[misc]  # it has no types
    """Wide & Deep as FuxiCTR's model zoo has it."""

    def __init__(self, features: FeatureMap, rows: Rows, root: str) -> None:
        super().__init__(features, model_id="WideDeep", model_root=root, **SETTINGS)
        self.embedding_layer = FeatureEmbedding(features, rows.dim)
        self.lr_layer = LogisticRegression(features, use_bias=False)
        self.dnn = MLP_Block(
            input_dim=rows.dim * features.num_fields, output_dim=1, hidden_units=list(rows.hidden),
            hidden_activations="ReLU", output_activation=None, dropout_rates=rows.dropout, batch_norm=rows.batch_norm,
        )  # fmt: skip
        self.compile("adam", "binary_crossentropy", 1e-3)
        self.reset_parameters()
        self.model_to_device()

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """The probability of each row."""
        fields = self.get_inputs(inputs)
        logits = self.lr_layer(fields) + self.dnn(self.embedding_layer(fields).flatten(start_dim=1))
        return {"y_pred": self.output_activation(logits)}


def feature_map(rows: Rows, root: str) -> FeatureMap:
    """The fields."""
    features = FeatureMap("bench", root)
    specs: list[tuple[str, dict[str, Any]]] = [
        (name, {"source": "", "type": "categorical", "vocab_size": size})
        for name, size in zip(rows.names, rows.sizes, strict=True)
    ]
    features.features, features.labels = OrderedDict(specs), ["label"]
    features.num_fields, features.default_emb_dim = len(specs), rows.dim
    features.total_features, features.input_length = sum(rows.sizes), len(specs)
    features.set_column_index()
    return features


def loader(features: FeatureMap, rows: Rows, file: Path) -> NpzDataLoader:
    """Its loader, without processes of its own."""
    columns = {name: rows.ids[:, place] for place, name in enumerate(rows.names)}
    np.savez(file, **{**columns, "label": rows.label})  # type: ignore[arg-type]  # columns are arrays, not its flags
    return NpzDataLoader(features, str(file), batch_size=rows.batch, shuffle=True, num_workers=0)


def main() -> None:
    """A few batches to warm up, then one epoch."""
    torch.set_num_threads(1)
    rows = given()
    with tempfile.TemporaryDirectory() as folder:
        features = feature_map(rows, folder)
        model = WideDeep(features, rows, folder)
        warm = loader(features, rows.first(WARM * rows.batch), Path(folder) / "warm.npz")
        whole = loader(features, rows, Path(folder) / "rows.npz")
        model._max_gradient_norm = 10.0  # what its `fit` would set before an epoch
        model.train()
        for batches in (warm, whole):
            with measured(len(batches.dataset)):
                for batch in batches:
                    model.train_step(batch)


if __name__ == "__main__":
    main()
