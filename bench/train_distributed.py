"""One rank against two: how fast sharded training is, and how good what comes of it.

    python -m bench.train_distributed [--impressions 120000] [--epochs 3] [--rounds 2] [--json figures.json]

The same log, the same config and the same batch over all ranks, each of which has one thread; the rounds take turns.
Samples are training rows; the time is that of the epochs' steps, without starting, judging and checkpoints. The AUC is
of the stop split. Ranks that share a core do not show how ranks on machines of their own scale: `cores` says how many
there are.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import mean

from model.data.dataset import Dataset
from model.data.synthetic import SyntheticConfig, dataset
from model.run import Progress
from model.sharded.plan import Plan
from model.sharded.shards import Shards, write_shards
from model.train_config import TrainConfig
from service.calibration import usable_cores
from service.distributed.ranks import Ranks, joined

ROOT = Path(__file__).parent.parent
SHARDS = 8
MARK = "figures: "


@dataclass(frozen=True)
class Figure:
    """One run. auc: of its best epoch."""

    ranks: int
    samples_per_s: float
    auc: float


class Clock:
    """Adds up the time of an epoch's steps, from the end of the first one on."""

    def __init__(self) -> None:
        self.rows_share, self.spent_s, self._last = 0.0, 0.0, 0.0

    def __call__(self, progress: Progress) -> None:
        """A step has ended."""
        now = time.perf_counter()
        if progress.step > 1:
            self.spent_s += now - self._last
            self.rows_share += 1 / progress.steps
        self._last = now


def config_of(epochs: int) -> TrainConfig:
    """The network of `bench.synthetic`, in batches that two ranks can share."""
    options = {"alpha": 0.1, "l1": 30.0, "rate": 0.05}
    params = {"dim": 16, "hidden": (256, 128, 64)}
    return TrainConfig(recipe_options=options, params=params, batch_size=1024, epochs=epochs, precision="float32")


def ranked(folder: Path, epochs: int) -> None:
    """What each rank does; the first prints its figures."""
    from model.sharded.learner import ShardedLearner
    from model.sharded.run import ShardedRun
    from model.training import unchecked_sparse

    ranks, shards, clock = Ranks.of(os.environ), Shards.open(folder / "shards"), Clock()
    plan = Plan(config_of(epochs), shards, folder / f"runs-{ranks.count}", every=1_000_000)
    plan.check(ranks.count)
    with joined(ranks), unchecked_sparse():
        run = ShardedRun(plan, ShardedLearner.of(plan.config, shards, plan.layout), progress=clock)
        run.fit()
        if ranks.first:
            rows = sum(shards.contents.rows["train"]) * clock.rows_share
            best = max(record["auc"] for record in run.state.history)
            print(MARK + json.dumps(asdict(Figure(ranks.count, rows / clock.spent_s, best))), flush=True)
            run.forget()


def measured(folder: Path, ranks: int, epochs: int) -> Figure:
    """One run of so many ranks. Raises RuntimeError where it fails."""
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    command = [*torchrun, "-m", "bench.train_distributed", "--folder", str(folder), "--epochs", str(epochs)]
    given = os.environ | {"OMP_NUM_THREADS": "1"}
    ran = subprocess.run(command, env=given, cwd=ROOT, capture_output=True, text=True, check=False)
    if (found := re.search(rf"^{MARK}(.*)$", ran.stdout, re.MULTILINE)) is None:
        raise RuntimeError(f"{ranks} ranks gave no figures:\n{ran.stderr}")
    return Figure(**json.loads(found.group(1)))


def report(figures: list[Figure], data: Dataset) -> dict[str, object]:
    """What is written as JSON: the means by number of ranks, and each run."""
    counts = sorted({figure.ranks for figure in figures})
    by_ranks = {
        count: {
            "samples_per_s": mean(one.samples_per_s for one in figures if one.ranks == count),
            "auc": mean(one.auc for one in figures if one.ranks == count),
        }
        for count in counts
    }
    slowest = by_ranks[counts[0]]["samples_per_s"]
    scaling = {count: found["samples_per_s"] / slowest for count, found in by_ranks.items()}
    return {
        "cores": usable_cores(),
        "rows": data.count("train"),
        "by_ranks": by_ranks,
        "scaling": scaling,
        "runs": [asdict(figure) for figure in figures],
    }


def main() -> None:
    """Measure, print the table, write the JSON; under torchrun, be a rank."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--impressions", type=int, default=120_000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.folder:
        ranked(options.folder, options.epochs)
        return
    with tempfile.TemporaryDirectory() as folder:
        data, _ = dataset(SyntheticConfig(impressions=options.impressions))
        write_shards(data, Path(folder) / "shards", count=SHARDS)
        turns = options.ranks * options.rounds
        figures = [measured(Path(folder), ranks, options.epochs) for ranks in turns]
    found = report(figures, data)
    print(f"{found['rows']} rows, batches of {config_of(1).batch_size} over all ranks, {found['cores']} core(s)")
    print(f"{'ranks':>5} {'samples/s':>10} {'AUC':>7}")
    for one in figures:
        print(f"{one.ranks:>5} {one.samples_per_s:>10,.0f} {one.auc:>7.4f}")
    print("scaling: " + ", ".join(f"{count} ranks {times:.2f}x" for count, times in found["scaling"].items()))  # type: ignore[attr-defined]
    if options.json:
        options.json.write_text(json.dumps(found, indent=2), encoding="utf-8")


if __name__ == "__main__":
    main()
