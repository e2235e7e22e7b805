"""A net that scores like the one it is made of, in fewer instructions: weights laid out once, in bf16 or in fp32.

It answers `combine` alone faster. What it leaves out is what only training needs; what it rounds is what bf16 rounds.
"""

from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import Bag, Pair
from model.cross_plan import EvenBag
from model.layers import MLP, Deep, Wide
from model.precision import multiplies_bfloat16
from model.stacked import Cross, Residual, whole
from model.sums import ROWS_AT_ONCE, Sums, stepped
from model.tower import Tower
from model.zoo import Net

Layer = Callable[[Tensor], Tensor]

RELU, NOTHING = "relu", "none"
"""What a layer does to its sums, in oneDNN's words."""

PROBE_ROWS = 200
"""Rows that a layer is laid out for and tried with; it takes any number."""

PROBE_ERROR = {torch.bfloat16: 0.02, torch.float32: 1e-5}
"""How far a laid-out layer may be from the plain one, of its largest value: the rounding of its type."""


def best_dtype() -> torch.dtype:
    """bfloat16 where the processor multiplies it in hardware, else float32."""
    return torch.bfloat16 if multiplies_bfloat16(torch.device("cpu")) else torch.float32


def quickened(net: Net, dtype: torch.dtype) -> Net:
    """The net with every layer that has a quicker form in that form; it shares all other parameters with `net`.

    Its `combine` overwrites the app part that it is given. `net` is in evaluation mode and stays as it is.
    """
    known: dict[int, Any] = {id(tensor): tensor for tensor in (*net.parameters(), *net.buffers())}
    for module in net.modules():
        if isinstance(module, MLP):
            known[id(module)] = PackedMLP(module, dtype)
        elif isinstance(module, Deep | Tower):
            known[id(module)] = PackedTower(module, dtype)
        elif isinstance(module, Cross):
            known[id(module)] = PackedCross(module, dtype)
        elif isinstance(module, Residual):
            known[id(module)] = PackedResidual(module, dtype)
        elif isinstance(module, Wide):
            known[id(module)] = QuickWide(module)
    return deepcopy(net, known)


class PackedMLP(nn.Module):
    """The tower of an `MLP` in evaluation: batch norms folded into the layers, dropout left out, weights laid out.

    Only the first batch norm stays, since the sum that it normalises is not of one layer.
    """

    def __init__(self, mlp: MLP, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype = dtype
        first, *_ = mlp.layers
        self._norm = first if isinstance(first, nn.BatchNorm1d) else None
        *inner, (weight, bias) = _folded(mlp)
        self._inner = [packed_layer(one, shift, dtype) for one, shift in inner]
        self._weight, self._bias = weight[0], bias[0]

    def forward(self, hidden: Tensor | Sums) -> Tensor:
        """(N,) float32 logits from (N, H), the first layer's sums before its ReLU; they are overwritten."""
        blocks = hidden if isinstance(hidden, Sums) else [(stepped(hidden.to(self._dtype)), len(hidden))]
        return torch.cat([self._logits(block)[:count] for block, count in blocks]) + self._bias

    def _logits(self, hidden: Tensor) -> Tensor:
        if self._norm:
            hidden = _normalised(hidden, self._norm)
        hidden = rectified(hidden)
        for layer in self._inner:
            hidden = layer(hidden)
        # Row by row: a product with a vector takes rows in groups, and gives equal rows unequal last bits.
        return hidden.float().mul_(self._weight).sum(1)


class PackedTower(nn.Module):
    """A `Tower`, or that of a `Deep`; what it leaves of each side is as it was."""

    def __init__(self, tower: Tower | Deep, dtype: torch.dtype) -> None:
        super().__init__()
        self.request_part, self.app_part = tower.request_part, tower.app_part
        self._mlp, self._dtype = PackedMLP(tower.mlp, dtype), dtype
        weight = tower.first.pair.detach()
        zeros = weight.new_zeros(len(weight))
        self._pair = packed_layer(weight, zeros, dtype, after=NOTHING) if weight.numel() else None

    def tower(self, hidden: Tensor | Sums, pair: Pair) -> Tensor:
        """(N,) logits from the two sides' sum (N, H), which is overwritten, and the pair's own numbers."""
        return self.forward(hidden, pair.dense)

    def forward(self, hidden: Tensor | Sums, values: Tensor) -> Tensor:
        """(N,) logits from the two sides' sum (N, H), which is overwritten, and the pair's values (N, P)."""
        if self._pair:
            more = partial(self._paired, self._pair, values)
            hidden = hidden.with_rows(more) if isinstance(hidden, Sums) else hidden + more(slice(None))
        logits: Tensor = self._mlp(hidden)
        return logits

    def _paired(self, layer: Layer, every: Tensor, rows: slice) -> Tensor:
        values = every[rows]
        return layer(stepped(values.to(self._dtype)))[: len(values)]


class PackedCross(nn.Module):
    """A `Cross` in evaluation."""

    def __init__(self, cross: Cross, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = cross.first
        self._layers = [PackedLinear(whole(layer), layer.bias, dtype) for layer in cross.uncut]

    def forward(self, x: Tensor, mixed: Tensor) -> Tensor:
        """(N, W) from x_0 (N, W) and W_0 x_0 + b_0 (N, W)."""
        crossed = x * mixed + x
        for layer in self._layers:
            crossed = torch.addcmul(crossed, x, layer(crossed))
        return crossed


class PackedResidual(nn.Module):
    """A `Residual` in evaluation."""

    def __init__(self, unit: Residual, dtype: torch.dtype) -> None:
        super().__init__()
        self.first = unit.first
        self._norm = next((one for one in unit.between if isinstance(one, nn.BatchNorm1d)), None)
        self.hidden = PackedLinear(whole(unit.first), unit.first.bias, dtype)
        self._back = PackedLinear(unit.weight, unit.bias, dtype)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, W) from x (N, W) and h (N, H)."""
        if self._norm:
            hidden = _normalised(hidden, self._norm)
        sums: Tensor = self._back(hidden.clamp_min(0)) + x
        return sums.clamp_min_(0)


class PackedLinear(nn.Module):
    """W x + b on rows of float32, multiplied in `dtype`, a block of rows at a time."""

    def __init__(self, weight: Tensor, bias: Tensor, dtype: torch.dtype) -> None:
        super().__init__()
        self._dtype, self._layer = dtype, packed_layer(weight.detach(), bias.detach(), dtype, after=NOTHING)

    def forward(self, x: Tensor) -> Tensor:
        """(N, out) of (N, in)."""
        blocks = (rows.to(self._dtype) for rows in torch.split(x, ROWS_AT_ONCE))
        return torch.cat([self._layer(stepped(rows))[: len(rows)].float() for rows in blocks])


class QuickWide(nn.Module):
    """A `Wide` that adds up the crosses' weights without going through bags where each candidate has as many."""

    def __init__(self, wide: Wide) -> None:
        super().__init__()
        self.request_part, self.app_part = wide.request_part, wide.app_part
        self._bias, self._dense = wide.bias.detach(), wide.pair_dense.detach()
        self._crosses = None if wide.crosses is None else wide.crosses.detach()

    def pair_part(self, pair: Pair) -> Tensor:
        """(N,): the weights of the two-sided crosses, the pair's continuous values, and the bias."""
        total = self._bias.expand(pair.dense.shape[0])
        if self._dense.numel():
            total = torch.addmv(total, pair.dense, self._dense)
        if self._crosses is None:
            return total
        for bag in pair.crosses:
            total = total + _summed(bag, self._crosses)
        return total


def _summed(bag: Bag, weights: Tensor) -> Tensor:
    """(N,): the weights (size, 1) that each bag names, added up."""
    if isinstance(bag, EvenBag):
        return weights[:, 0].index_select(0, bag.values).view(len(bag.offsets), -1).sum(1)
    return F.embedding_bag(bag.values, weights, bag.offsets, mode="sum")[:, 0]


def rectified(x: Tensor) -> Tensor:
    """ReLU in place. A negative bfloat16 is a negative int16, and those are compared six times as fast."""
    if x.dtype is torch.bfloat16:
        x.view(torch.int16).clamp_min_(0)
        return x
    return x.clamp_min_(0)


def packed_layer(weight: Tensor, bias: Tensor, dtype: torch.dtype, *, after: str = RELU) -> Layer:
    """W x + b on rows of `dtype`, with the weights laid out for oneDNN where this torch can and gets it right.

    after: what is done to it then, RELU or NOTHING.
    """
    weight, bias = weight.to(dtype), bias.to(dtype)
    plain = partial(_plain, weight, bias) if after == RELU else partial(_linear, weight, bias)
    try:
        packed = _one_dnn(weight, bias, after)
        probe = torch.linspace(-1, 1, PROBE_ROWS * weight.shape[1]).view(PROBE_ROWS, -1).sin().to(dtype)
        right = plain(probe).float()
        near = bool((packed(probe).float() - right).abs().max() <= PROBE_ERROR[dtype] * right.abs().max())
    except (AttributeError, RuntimeError):  # the private operators have gone, have changed, or lack this type
        return plain
    return packed if near else plain


def _one_dnn(weight: Tensor, bias: Tensor, after: str) -> Layer:
    blocked = torch.ops.mkldnn._reorder_linear_weight(weight, PROBE_ROWS)
    linear = torch.ops.mkldnn._linear_pointwise.default
    return lambda x: linear(x, blocked, bias, after, [], "")


def _plain(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return rectified(F.linear(x, weight, bias))


def _linear(weight: Tensor, bias: Tensor, x: Tensor) -> Tensor:
    return F.linear(x, weight, bias)


def _normalised(x: Tensor, norm: nn.BatchNorm1d) -> Tensor:
    return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, eps=norm.eps)


def _folded(mlp: MLP) -> list[tuple[Tensor, Tensor]]:
    """The weight and bias of each linear layer, the batch norm behind it taken in."""
    layers: list[tuple[Tensor, Tensor]] = []
    for layer in mlp.layers:
        if isinstance(layer, nn.Linear):
            layers.append((layer.weight.detach(), layer.bias.detach()))
        elif isinstance(layer, nn.BatchNorm1d) and layers:
            weight, bias = layers[-1]
            mean, variance = layer.get_buffer("running_mean"), layer.get_buffer("running_var")
            scale = layer.weight.detach() * (variance + layer.eps).rsqrt()
            layers[-1] = weight * scale[:, None], (bias - mean) * scale + layer.bias.detach()
    return layers
