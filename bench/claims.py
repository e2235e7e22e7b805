"""DeepFM's claim on a store whose truth is known: second-order effects between fields, and no hand-made cross.

    python -m bench.claims [--seeds 3] [--json figures.json]

The store's installs follow main effects, the inner product of a user's taste with an app's vector, both of them sums
over fields, and a daytime's effect on a category: effects of pairs of fields, none of which the schema crosses. Two
bounds come from the truth itself: all of it, and all of it but these effects. A sum over single fields gets beyond the
lower one by what a pair's effects are on average over the other field, and no further.
Guo et al. 2017 (arXiv:1703.04247): factorisation finds such pairs by itself, a wide side alone needs an engineer.
"""

import argparse
import json
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bench.quality import figure, markdown
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.data.synthetic import SyntheticConfig, World, dataset, generate
from model.metrics import auc, log_loss
from model.training import Progress, TrainConfig, probabilities, train

Floats = npt.NDArray[np.float64]

STORE = SyntheticConfig(
    users=1_000, apps=200, days=10, impressions=100_000, crossed=0.0, context=0.6, low_rank=2.0, drift=0.0
)
SECOND_ORDER = ("low_rank", "context")
TOWER: Mapping[str, Any] = {"dim": 8, "hidden": (64, 32), "dropout": 0.0, "batch_norm": False}
NETS: Mapping[str, Mapping[str, Any]] = {
    "lr": {},
    "wide_deep, wide alone": {**TOWER, "deep": False},
    "fm": {"dim": 8},
    "deepfm": TOWER,
}
ALL, FIRST = "truth", "truth without second order"


@dataclass(frozen=True)
class Found:
    """How well one scorer orders the gate split of one store."""

    name: str
    seed: int
    auc: float
    log_loss: float


@dataclass(frozen=True)
class Store:
    """A log without crosses in its schema. bounds: by name, (B,) probabilities of the gate split's rows."""

    made: Dataset
    bounds: Mapping[str, Floats]


def store(config: SyntheticConfig) -> Store:
    """Make the store and what its truth says of the gate split."""
    made, _ = dataset(config)
    world, gate = generate(config), (made.examples["split"] == "gate").to_numpy()
    bare = replace(made, schema=made.schema.model_copy(update={"crosses": ()}))
    bounds = {ALL: world.probability[gate], FIRST: _without(world, SECOND_ORDER)[gate]}
    return Store(bare, bounds)


def _without(world: World, terms: Sequence[str]) -> Floats:
    """(B,) the probability of each event if these terms of its logit were nothing."""
    config = world.truth.config
    logit = config.intercept + world.terms.drop(*terms).sum_horizontal().to_numpy()
    examined = world.events["position"].to_numpy().astype(np.float64) ** -config.position
    return np.asarray(examined / (1 + np.exp(-logit)))


def config_of(name: str, *, seed: int) -> TrainConfig:
    """One family as it is trained here: Adam, no batch norm, so that all differ in their form alone."""
    return TrainConfig(
        architecture=name.partition(",")[0],
        params=dict(NETS[name]),
        recipe="adam",
        recipe_options={"rate": 2e-3, "embedding_l2": 1e-5, "wide_l2": 1e-6},
        batch_size=512,
        epochs=20,
        seed=seed,
    )


def run(config: SyntheticConfig, names: Sequence[str] = tuple(NETS)) -> list[Found]:
    """Both bounds and every net on one store; the seed is the store's and training's."""
    world, seed = store(config), config.seed
    rows = rows_of(world.made, "gate")
    label, scores = rows["label"].to_numpy().astype(np.float64), dict(world.bounds)
    for name in names:
        result = train(config_of(name, seed=seed), world.made, progress=partial(_tell, name))
        scores[name] = probabilities(result.net, encode(result.transform, world.made, rows))
    return [Found(name, seed, auc(label, score), log_loss(label, score)) for name, score in scores.items()]


def report(found: Sequence[Found]) -> str:
    """A line a scorer: AUC by seed, its mean, and the share of what second order is worth."""
    by_name: dict[str, list[Found]] = {}
    for one in found:
        by_name.setdefault(one.name, []).append(one)
    low, high = ([one.auc for one in by_name[bound]] for bound in (FIRST, ALL))
    rows = []
    for name, runs in by_name.items():
        pairs = zip(runs, low, high, strict=True)
        share = statistics.mean((one.auc - least) / (most - least) for one, least, most in pairs)
        each = " ".join(f"{one.auc:.4f}" for one in runs)
        losses = figure([one.log_loss for one in runs], places=4)
        rows.append((name, figure([one.auc for one in runs], places=4), losses, f"{share:.0%}", each))
    head = ("scorer", "AUC", "log loss", "of what second order is worth", "AUC by seed")
    return markdown(head, rows)


def main() -> None:
    """Print the table over the seeds, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seeds = range(1, arguments.seeds + 1)
    found = [one for seed in seeds for one in run(STORE.model_copy(update={"seed": seed}))]
    print(report(found))
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(one) for one in found], indent=1), encoding="utf-8")


def _tell(name: str, progress: Progress) -> None:
    if progress.step == progress.steps:
        print(f"{name}: epoch {progress.epoch}, loss {progress.loss:.4f}, AUC before {progress.auc}", file=sys.stderr)


if __name__ == "__main__":
    main()
