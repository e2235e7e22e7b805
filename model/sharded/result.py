"""From the end of a sharded run to what a training on one machine gives: an ordinary net, and what a bundle needs."""

from model.data.dataset import Dataset
from model.data.examples import RowEncoder
from model.learner import POSITION
from model.run import scored
from model.sharded.plan import Plan
from model.sharded.run import Outcome
from model.statistics import statistics_of
from model.tally import Tally
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
    tally = _judged(net, RowEncoder(transform, dataset))
    return TrainResult(
        config,
        transform,
        net,
        metrics={"auc": tally.auc(), "log_loss": tally.log_loss()},
        statistics={**statistics_of(dataset), "score_histogram": tally.histogram.tolist()},
        optimizer_state=state | {POSITION + name: value for name, value in beside.items()},
        history=outcome.history,
        best_epoch=outcome.best_epoch,
        transferred=None,
    )


def _judged(net: Net, encoder: RowEncoder) -> Tally:
    """What the net makes of the stop split, of which a piece at a time is in memory."""
    tally = Tally(encoder.dataset.count("stop"))
    for rows in encoder.dataset.pieces("stop"):
        for label, scores in scored(net, encoder.examples(rows)):
            tally.take(label, scores)
    return tally
