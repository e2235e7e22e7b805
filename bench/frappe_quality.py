"""Quality on Frappe_x1: test AUC and log loss over several seeds, the unseen-pair slice beside every figure.

    python -m bench.frappe_quality ../shared/data --seeds 3 --recipe adam [--history]

Valid and test are exact, train is rebuilt (frappe_x1/README.md): say so wherever a figure is quoted. Choices were made
on valid; test is read once, here.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from bench.frappe_data import benchmark
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.metrics import auc, log_loss
from model.training import Progress, TrainConfig, probabilities, train

NET = {"dim": 10, "hidden": (400, 400, 400)}
CONFIGS: Mapping[str, TrainConfig] = {
    "adam": TrainConfig(
        recipe="adam",
        recipe_options={"embedding_l2": 0.05, "wide_l2": 0.05},
        params={**NET, "dropout": 0.2},
        batch_size=4096,
        epochs=60,
    ),
    "paper": TrainConfig(recipe="paper", params=NET, epochs=40),
}
WITH_HISTORY: Mapping[str, TrainConfig] = {
    **CONFIGS,
    "adam": CONFIGS["adam"].model_copy(
        update={
            "recipe_options": {"embedding_l2": 0.1, "wide_l2": 1e-4},
            "params": {**NET, "dropout": 0.3},
        }
    ),
}


def unseen_pairs(dataset: Dataset, rows: pl.DataFrame) -> npt.NDArray[np.bool_]:
    """(B,) True where no training positive holds the row's user and app."""
    pairs = rows_of(dataset, "train").filter(pl.col("label") == 1).select("user_id", "app_id").unique()
    seen = rows.join(pairs.with_columns(seen=True), on=["user_id", "app_id"], how="left", maintain_order="left")
    return seen["seen"].is_null().to_numpy()


def run(dataset: Dataset, config: TrainConfig) -> dict[str, Any]:
    """Train once and read the test split once."""
    result = train(config, dataset, progress=_tell)
    rows = rows_of(dataset, "gate")
    scores = probabilities(result.net, encode(result.transform, dataset, rows))
    label, unseen = rows["label"].to_numpy().astype(np.float64), unseen_pairs(dataset, rows)
    return {
        "seed": config.seed,
        "epochs": len(result.history),
        "valid_auc": result.metrics["auc"],
        "test_auc": auc(label, scores),
        "test_log_loss": log_loss(label, scores),
        "unseen_pair_auc": auc(label[unseen], scores[unseen]),
    }


def main() -> None:
    """Print a row a seed and their mean and standard deviation; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipe", choices=sorted(CONFIGS), default="adam")
    parser.add_argument("--history", action="store_true", help="installed crosses and pair counts, own event left out")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    dataset = benchmark(arguments.data, history=arguments.history)
    config = (WITH_HISTORY if arguments.history else CONFIGS)[arguments.recipe]
    runs = [run(dataset, config.model_copy(update={"seed": seed})) for seed in range(1, arguments.seeds + 1)]
    what = f"wide_deep, recipe {arguments.recipe}, {'with history' if arguments.history else '10 fields'}"
    print(f"\nFrappe_x1 (exact valid and test, rebuilt train): {what}")
    for record in runs:
        print(
            "  ".join(
                f"{name} {value:.5f}" if isinstance(value, float) else f"{name} {value}"
                for name, value in record.items()
            )
        )
    for name in ("test_auc", "test_log_loss", "unseen_pair_auc"):
        values = [record[name] for record in runs]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{name}: mean {statistics.mean(values):.5f}, standard deviation {spread:.5f} of {len(values)} seeds")
    if arguments.json:
        arguments.json.write_text(json.dumps({"what": what, "runs": runs}, indent=1))


def _tell(progress: Progress) -> None:
    if progress.step == progress.steps:
        print(f"epoch {progress.epoch} loss {progress.loss:.4f}, valid AUC before it {progress.auc}", file=sys.stderr)


if __name__ == "__main__":
    main()
