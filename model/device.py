"""Where a net is trained, and what is moved there."""

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from model.batch import Bag, Batch, Pair, Side
from model.learner import Learner
from model.train_config import TrainingFailed

CPU = torch.device("cpu")


def chosen(asked: Literal["auto", "cpu", "cuda"]) -> torch.device:
    """The device to train on; auto is a GPU where there is one. Raises TrainingFailed for a GPU that is not there."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise TrainingFailed(
            "device cuda was asked for and torch finds no GPU here; ask for cpu or auto, or install a torch that was "
            "built for the GPU's driver"
        )
    return CPU if asked == "cpu" or not torch.cuda.is_available() else torch.device("cuda")


def move(learner: Learner, device: torch.device) -> None:
    """Take the net, the position term and the optimizers' state there, in place."""
    if device == CPU:
        return
    learner.net.to(device)
    if learner.position is not None:
        learner.position.to(device)
    for optimizer in learner.optimizers:
        optimizer.load_state_dict(optimizer.state_dict())  # which puts state beside its parameter


def moved(batch: Batch, device: torch.device) -> Batch:
    """The batch there; from a CPU to a GPU by way of pinned memory, so that the copies do not wait for each other."""
    if device.type == "cpu":
        return batch

    def one(tensor: Tensor) -> Tensor:
        return (tensor.pin_memory() if device.type == "cuda" else tensor).to(device, non_blocking=True)

    def bags(some: tuple[Bag, ...]) -> tuple[Bag, ...]:
        return tuple(Bag(one(bag.values), one(bag.offsets)) for bag in some)

    def side(of: Side) -> Side:
        return replace(of, ids=one(of.ids), dense=one(of.dense), bags=bags(of.bags), crosses=bags(of.crosses), keys=())

    pair = Pair(one(batch.pair.dense), bags(batch.pair.crosses))
    position = None if batch.position is None else one(batch.position)
    return Batch(side(batch.request), side(batch.app), pair, one(batch.label), one(batch.weight), position)
