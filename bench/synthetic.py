"""Each half of the network against a known truth: wide only, deep only and Wide & Deep on a synthetic app store.

    python -m bench.synthetic [--size default] [--seed 0] [--json figures.json]

The oracle scores a row with its true probability, which no network sees; popularity is what the gate judges a first
version against. The share is of the oracle's gain in AUC over popularity. All figures are of the gate split.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.data.synthetic import SyntheticConfig, dataset
from model.holdout import popularity
from model.metrics import Interval, auc, auc_statistic, log_loss, paired_bootstrap
from model.training import Progress, TrainConfig, TrainResult, probabilities, train

Floats = npt.NDArray[np.float64]

SIZES: Mapping[str, Callable[..., SyntheticConfig]] = {
    "default": SyntheticConfig,
    "demo": SyntheticConfig.demo,
    "small": SyntheticConfig.small,
}
TRAINING = TrainConfig(
    recipe="paper",
    recipe_options={"alpha": 0.1, "l1": 30.0, "rate": 0.05},
    params={"dim": 8, "hidden": (128, 64, 32)},
    batch_size=256,
)
NETS: Mapping[str, TrainConfig] = {
    "wide": TRAINING.model_copy(update={"params": {**TRAINING.params, "deep": False}}),
    "deep": TRAINING.model_copy(update={"params": {**TRAINING.params, "wide": False}}),
    "wide_deep": TRAINING,
    "wide_deep, l1 = 0": TRAINING.model_copy(update={"recipe_options": {**TRAINING.recipe_options, "l1": 0.0}}),
}
COMPARED = (("wide_deep", "wide"), ("wide_deep", "deep"), ("wide_deep", "wide_deep, l1 = 0"))
RESAMPLES = 1000


@dataclass(frozen=True)
class Score:
    """How well one scorer orders the gate split. kept: share of the wide weights seen in training that are not 0."""

    name: str
    auc: float
    log_loss: float
    share: float
    kept: float | None = None
    epochs: int | None = None
    took_s: float | None = None


@dataclass(frozen=True)
class Judged:
    """The gate split's labels, and each scorer's scores of its rows, by name."""

    label: Floats
    scores: dict[str, Floats]

    def score(self, name: str) -> Score:
        """How well the scores of that name order the rows."""
        low, high = (auc(self.label, self.scores[bound]) for bound in ("popularity", "oracle"))
        mine = auc(self.label, self.scores[name])
        share = (mine - low) / (high - low)
        return Score(name, mine, log_loss(self.label, self.scores[name]), share)

    def difference(self, a: str, b: str) -> Interval:
        """The interval of a's AUC minus b's, over the same drawn rows."""
        first, second = (auc_statistic(self.label, self.scores[name]) for name in (a, b))
        return paired_bootstrap(first, second, resamples=RESAMPLES)


def kept_share(result: TrainResult) -> float | None:
    """Of the wide weights that some gradient reached, the share that is not zero; None without a wide side."""
    weights = {name: value for name, value in result.net.state_dict().items() if name.startswith("wide.")}
    seen = {name: result.optimizer_state[f"{name}/n"] > 0 for name in weights if f"{name}/n" in result.optimizer_state}
    count = sum(int(mask.sum()) for mask in seen.values())
    return sum(int((weights[name][mask] != 0).sum()) for name, mask in seen.items()) / count if count else None


def run(made: Dataset, truth: Floats, *, seed: int) -> tuple[list[Score], dict[str, Interval]]:
    """Train every net once and compare them with the truth on the gate split."""
    rows = rows_of(made, "gate")
    oracle = truth[(made.examples["split"] == "gate").to_numpy()]
    judged = Judged(rows["label"].to_numpy() * 1.0, {"oracle": oracle, "popularity": popularity(made, rows)})
    table = [judged.score("oracle"), judged.score("popularity")]
    for name, config in NETS.items():
        began = time.perf_counter()
        result = train(config.model_copy(update={"seed": seed}), made, progress=_tell(name))
        took_s = time.perf_counter() - began
        judged.scores[name] = probabilities(result.net, encode(result.transform, made, rows))
        kept, epochs = kept_share(result), len(result.history)
        table.append(replace(judged.score(name), kept=kept, epochs=epochs, took_s=took_s))
    return table, {f"{a} over {b}": judged.difference(a, b) for a, b in COMPARED}


def main() -> None:
    """Print the table and the intervals; write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="default")
    parser.add_argument("--seed", type=int, default=0, help="of the store and of training")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    made, truth = dataset(SIZES[arguments.size](seed=arguments.seed))
    print(", ".join(f"{name} {count}" for name, count in made.facts.counts.items()))
    table, intervals = run(made, truth, seed=arguments.seed)
    print(f"\n{'':20}{'AUC':>8}{'log loss':>10}{'share':>8}{'kept':>8}{'epochs':>8}{'seconds':>9}")
    for line in table:
        kept = "" if line.kept is None else f"{line.kept:.1%}"
        took = f"{line.epochs:>8}{line.took_s:>9.0f}" if line.epochs else ""
        print(f"{line.name:20}{line.auc:8.4f}{line.log_loss:10.4f}{line.share:8.1%}{kept:>8}{took}")
    for name, interval in intervals.items():
        print(f"AUC of {name}: {interval.mean:+.4f}, 95 % of resamples in [{interval.low:+.4f}, {interval.high:+.4f}]")
    if arguments.json:
        figures = {"scores": [asdict(line) for line in table], "over": {k: asdict(v) for k, v in intervals.items()}}
        arguments.json.write_text(json.dumps({"size": arguments.size, "seed": arguments.seed, **figures}, indent=1))


def _tell(name: str) -> Callable[[Progress], None]:
    def tell(progress: Progress) -> None:
        if progress.step == progress.steps:
            print(
                f"{name}: epoch {progress.epoch}, loss {progress.loss:.4f}, AUC before {progress.auc}", file=sys.stderr
            )

    return tell


if __name__ == "__main__":
    main()
