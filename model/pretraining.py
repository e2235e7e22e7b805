"""The first layer of an FNN from a factorization machine that was trained on the same examples."""

import torch
from torch import nn

from model.architectures.fm import FactorizationMachine
from model.architectures.fnn import FNN
from model.interactions import FieldVectors
from model.layers import WideSide


@torch.no_grad()
def pretrain(net: nn.Module, fm_net: nn.Module) -> None:
    """Copy w_0, w_i and v_i into z = (w_0, z_1, ...), z_i = (w_i, v_i) (Zhang et al. 2016, the embedding layer).

    In place. Raises TypeError unless the nets are an FNN and a factorization machine, and RuntimeError unless both are
    of the same `dim` and were built for the same schema and vocabularies.
    """
    if not (isinstance(net, FNN) and isinstance(fm_net, FactorizationMachine)):
        given = f"{type(net).__name__} and {type(fm_net).__name__}"
        raise TypeError(f"an FNN begins from a factorization machine; these are {given}")
    linear = fm_net.linear
    _copy(net.request, fm_net.request, linear.request)
    _copy(net.app, fm_net.app, linear.app)
    net.pair.vectors.copy_(torch.cat([linear.pair_dense[:, None], fm_net.pairs.pair.vectors], dim=1))
    net.constant.copy_(linear.bias)


def _copy(into: FieldVectors, vectors: FieldVectors, weights: WideSide) -> None:
    """The fields of one side; both keep their rows in the same order."""
    into.numbers.vectors.copy_(torch.cat([weights.dense[:, None], vectors.numbers.vectors], dim=1))
    for mine, theirs in zip(into.embedding.tables, vectors.embedding.tables, strict=True):
        mine.copy_(torch.cat([weights.table, theirs], dim=1))
