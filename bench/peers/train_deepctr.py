"""DeepCTR-Torch's WDL as its examples train it, without the metrics and penalties that it would compute each step."""

import numpy as np
import torch
from deepctr_torch.inputs import DenseFeat, SparseFeat
from deepctr_torch.models import WDL

from bench.peers.train_rows import WARM, Array, Rows, given, measured


def model(rows: Rows) -> WDL:
    """The network."""
    named = zip(rows.names, rows.sizes, strict=True)
    sparse = [SparseFeat(name, size, embedding_dim=rows.dim) for name, size in named]
    columns = [*sparse, *(DenseFeat(name, 1) for name in rows.numbers)]
    built = WDL(
        columns, columns, dnn_hidden_units=rows.hidden, l2_reg_linear=0, l2_reg_embedding=0,
        dnn_dropout=rows.dropout, dnn_use_bn=rows.batch_norm, task="binary", device="cpu",
    )  # fmt: skip
    built.compile("adagrad", "binary_crossentropy")
    return built


def columns(rows: Rows) -> dict[str, Array]:
    """The input of `fit`."""
    ids = {name: rows.ids[:, place].astype(np.float32) for place, name in enumerate(rows.names)}
    return ids | {name: rows.dense[:, place] for place, name in enumerate(rows.numbers)}


def main() -> None:
    """A few batches to warm up, then one epoch."""
    torch.set_num_threads(1)
    rows = given()
    built, warm = model(rows), rows.first(WARM * rows.batch)
    built.fit(columns(warm), warm.label, batch_size=rows.batch, epochs=1, verbose=0)
    fields = columns(rows)
    with measured(len(rows)):
        built.fit(fields, rows.label, batch_size=rows.batch, epochs=1, verbose=0)


if __name__ == "__main__":
    main()
