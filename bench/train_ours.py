"""One of appshelf's ways to train, in a process of its own: `python -m bench.train_ours WORK RECIPE PRECISION JSON`.

JSON: the recipe's options. Data are encoded first, in columns; what is timed is the loop of `model.run`: the order,
the batches, the steps.
"""

import json
import sys
from functools import partial

import torch

from bench.peers.train_rows import WARM, measured
from bench.train_work import BATCH, SEED, WORKS, log
from model.data.encoded import Encoded, Encoder
from model.fitting import fit
from model.learner import Learner
from model.memory import keep_freed_memory
from model.optim import RECIPES
from model.precision import training_dtype
from model.shuffle import Shuffle
from model.train_config import TrainConfig
from model.training import unchecked_sparse
from model.zoo import build


def epoch(learner: Learner, rows: Encoded, number: int, *, steps: int) -> None:
    """So many steps."""
    learner.net.train()
    shuffle = Shuffle(len(rows), BATCH, SEED, TrainConfig().shuffle_rows)
    for _, places in zip(range(steps), shuffle.batches(number), strict=False):
        learner.step(rows.batch(places))


def main() -> None:
    """A few batches to warm up, then one epoch."""
    name, recipe, precision, options = sys.argv[1:]
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    keep_freed_memory()
    work, made = WORKS[name], log(WORKS[name])
    transform = fit(made.schema, made)
    rows = Encoder(transform, made).held("train")
    optimizers = partial(RECIPES[recipe].model_validate_json(options).optimizers, batch_size=BATCH)
    dtype = training_dtype(TrainConfig(precision=precision).precision, torch.device("cpu"))
    learner = Learner.of(build("wide_deep", work.params, transform.sizes), None, optimizers=optimizers, dtype=dtype)
    with unchecked_sparse():
        epoch(learner, rows, 1, steps=WARM)
        with measured(len(rows)):
            epoch(learner, rows, 2, steps=len(rows) // BATCH)


def words(work: str, recipe: str, precision: str, options: dict[str, object]) -> list[str]:
    """The command."""
    return [sys.executable, "-m", "bench.train_ours", work, recipe, precision, json.dumps(options)]


if __name__ == "__main__":
    main()
