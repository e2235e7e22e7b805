"""From the end of a sharded run to what a training on one machine gives: an ordinary net, and what a bundle needs."""

import numpy as np

from model.data.dataset import Dataset
from model.data.examples import RowEncoder
from model.learner import POSITION
from model.metrics import auc, log_loss
from model.run import labels, probabilities
from model.sharded.learner import Floats
from model.sharded.plan import Plan
from model.sharded.run import Outcome
from model.statistics import statistics_of
from model.training import TrainResult
from model.zoo import Net, build

NET, BESIDE, STATE = "net.", "beside.", "state."


def result_of(plan: Plan, outcome: Outcome, dataset: Dataset) -> TrainResult:
    """The ordinary net with the best epoch's weights, measured on the stop split by itself.

    It needs the memory that the whole net takes, as every process that serves it does.
    """
    config, transform = plan.config, plan.shards.transform
    net = build(config.architecture, config.net_params(), transform.sizes)
    weights = {name.removeprefix(NET): value for name, value in outcome.tensors.items() if name.startswith(NET)}
    net.load_state_dict(weights)
    state = {name.removeprefix(STATE): value for name, value in outcome.tensors.items() if name.startswith(STATE)}
    beside = {name.removeprefix(BESIDE): value for name, value in outcome.tensors.items() if name.startswith(BESIDE)}
    label, scores = _scored(net, RowEncoder(transform, dataset))
    return TrainResult(
        config,
        transform,
        net,
        metrics={"auc": auc(label, scores), "log_loss": log_loss(label, scores)},
        statistics=statistics_of(dataset, transform, scores),
        optimizer_state=state | {POSITION + name: value for name, value in beside.items()},
        history=outcome.history,
        best_epoch=outcome.best_epoch,
        transferred=None,
    )


def _scored(net: Net, encoder: RowEncoder) -> tuple[Floats, Floats]:
    """Labels and probabilities of the stop split, of which a piece at a time is in memory."""
    found = []
    for rows in encoder.dataset.pieces("stop"):
        examples = encoder.examples(rows)
        found.append((labels(examples), probabilities(net, examples)))
    label, scores = zip(*found, strict=True)
    return np.concatenate(label), np.concatenate(scores)
