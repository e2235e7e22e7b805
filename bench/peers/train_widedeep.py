"""pytorch-widedeep's Wide and TabMlp in its Trainer, as its examples train them, with Adam for both."""

from contextlib import suppress
from typing import Any

import numpy as np
import torch
from torch.library import Library

from bench.peers.train_rows import WARM, Array, Rows, given, measured

with suppress(RuntimeError):  # it imports torchvision, whose wheel for GPUs lacks this beside a torch for CPUs
    MISSING = Library("torchvision", "DEF")  # type: ignore[no-untyped-call]  # torch ships it untyped
    for name in ("nms", "qnms"):
        MISSING.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")  # type: ignore[no-untyped-call]

from pytorch_widedeep import Trainer
from pytorch_widedeep.models import TabMlp, Wide, WideDeep


def model(rows: Rows) -> WideDeep:
    """The network; row 0 of each of its tables is for what it does not know."""
    wide = Wide(input_dim=sum(rows.sizes), pred_dim=1)
    columns = {name: place for place, name in enumerate([*rows.names, *rows.numbers])}
    embedded = [(name, size, rows.dim) for name, size in zip(rows.names, rows.sizes, strict=True)]
    tower = TabMlp(
        columns, cat_embed_input=embedded, continuous_cols=rows.numbers or None, mlp_hidden_dims=list(rows.hidden),
        mlp_dropout=rows.dropout, mlp_batchnorm=rows.batch_norm, mlp_batchnorm_last=rows.batch_norm,
    )  # fmt: skip
    return WideDeep(wide=wide, deeptabular=tower)


def inputs(rows: Rows) -> dict[str, Array]:
    """What its preprocessors would give: ids from 1, of all fields in one range for the wide side."""
    offsets = np.cumsum([0, *rows.sizes[:-1]])
    tab = np.concatenate([rows.ids + 1, rows.dense], axis=1).astype(np.float32)
    return {"X_wide": rows.ids + offsets + 1, "X_tab": tab, "target": rows.label}


def main() -> None:
    """A few batches to warm up, then one epoch."""
    torch.set_num_threads(1)
    rows = given()
    built = model(rows)
    parts: dict[str, Any] = {"wide": built.wide, "deeptabular": built.deeptabular}
    optimizers = {name: torch.optim.Adam(part.parameters()) for name, part in parts.items()}
    trainer = Trainer(built, objective="binary", optimizers=optimizers, verbose=0, num_workers=0)
    trainer.fit(**inputs(rows.first(WARM * rows.batch)), n_epochs=1, batch_size=rows.batch)
    given_to_fit = inputs(rows)
    with measured(len(rows)):
        trainer.fit(**given_to_fit, n_epochs=1, batch_size=rows.batch)


if __name__ == "__main__":
    main()
