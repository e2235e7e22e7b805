"""Layers over the values of both sides and of the pair side by side, the first of each cut by whose the values are."""

from collections.abc import Iterable, Iterator
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import Pair
from model.blocks import Axes, total
from model.dropout import Dropout, MaskPool
from model.layers import SplitLinear
from model.tower import Columns, TowerParams


class Mixed(SplitLinear):
    """A cut linear layer from all values to as many, each row of which belongs to the value that it is for."""

    def __init__(self, columns: Columns) -> None:
        self.rows = tuple(block for blocks in columns for block in blocks)
        super().__init__(columns, total(self.rows))

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        described: dict[str, Axes] = {name: {0: self.rows, **axes} for name, axes in super().axes().items()}
        return described | {"bias": {0: self.rows}}


class Cross(nn.Module):
    """x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (Wang et al. 2021, equation 1); W_0 x_0 is cut, each later product is not.

    columns: whose the values x_0 are.
    """

    def __init__(self, columns: Columns, count: int) -> None:
        super().__init__()
        self.first = Mixed(columns)
        self.rest = nn.ModuleList(Mixed(columns) for _ in range(count - 1))

    @property
    def uncut(self) -> Iterable[Mixed]:
        """The layers after the first, whose products are not cut."""
        return cast(Iterable[Mixed], self.rest)

    def forward(self, x: Tensor, mixed: Tensor) -> Tensor:
        """(N, W) from x_0 (N, W) and W_0 x_0 + b_0 (N, W)."""
        crossed = x * mixed + x
        for layer in self.uncut:
            crossed = x * F.linear(crossed, whole(layer), layer.bias) + crossed
        return crossed


class Residual(nn.Module):
    """relu(W_1 relu(h) + b_1 + x), h = W_0 x + b_0 (Shan et al. 2016, the residual layer); W_0 x is cut.

    hidden: H, the unit's inner width; masks: of its dropout.
    """

    def __init__(self, columns: Columns, hidden: int, params: TowerParams, masks: MaskPool) -> None:
        super().__init__()
        self.rows = tuple(block for blocks in columns for block in blocks)
        self.first = SplitLinear(columns, hidden)
        norm = [nn.BatchNorm1d(hidden)] if params.batch_norm else []
        dropout = [Dropout(params.dropout, masks)] if params.dropout else []
        self.between = nn.Sequential(*norm, nn.ReLU(), *dropout)
        bound = hidden**-0.5
        self.weight = nn.Parameter(torch.empty(total(self.rows), hidden).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(total(self.rows)).uniform_(-bound, bound))

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        return {"weight": {0: self.rows}, "bias": {0: self.rows}}

    def hidden(self, x: Tensor) -> Tensor:
        """h (N, H) of x (N, W), uncut."""
        return F.linear(x, whole(self.first), self.first.bias)

    def forward(self, x: Tensor, hidden: Tensor) -> Tensor:
        """(N, W) from x (N, W) and h (N, H)."""
        return F.relu(x + F.linear(self.between(hidden), self.weight, self.bias))


def residuals(columns: Columns, params: TowerParams) -> Iterator[Residual]:
    """A unit of each hidden width; all of them drop by masks of one pool, which is drawn once."""
    masks = MaskPool(params.dropout)
    return (Residual(columns, width, params, masks) for width in params.hidden)


class Head(nn.Module):
    """w . x + b over all values. forward: (N, W) -> (N,)."""

    def __init__(self, columns: Columns) -> None:
        super().__init__()
        self.rows = tuple(block for blocks in columns for block in blocks)
        bound = max(total(self.rows), 1) ** -0.5
        self.weight = nn.Parameter(torch.empty(total(self.rows)).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.zeros(1))

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        return {"weight": {0: self.rows}}

    def forward(self, x: Tensor) -> Tensor:
        """(N,)."""
        return x @ self.weight + self.bias


def whole(layer: SplitLinear) -> Tensor:
    """(H, W): W of a cut layer, for values that are not cut."""
    return torch.cat([layer.request, layer.app, layer.pair], dim=1)


def beside(request: Tensor, app: Tensor, pair: Pair) -> Tensor:
    """(N, W): the values of both sides and of the pair in one, of (1 or N, W) and (N, W)."""
    return torch.cat([request.expand(len(app), -1), app, pair.dense], dim=1)
