"""Deep Crossing (Shan et al. 2016, KDD): residual units over all embeddings side by side.

Embeddings are stacked as they are: the ReLU of the paper's embedding layer, after a looked-up row, would keep its
negative entries from ever learning.
"""

from collections.abc import Iterable
from typing import cast

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from model.batch import Pair, Side, Sizes
from model.blocks import pair_numbers
from model.layers import FieldEmbedding, Part
from model.stacked import Head, Residual, beside, residuals
from model.tower import TowerParams, Width


class DeepCrossingParams(TowerParams):
    """Width of the embeddings; hidden: the inner width of each residual unit."""

    hidden: tuple[Width, ...] = Field((512, 512, 256, 128, 64), min_length=1)


class DeepCrossing(nn.Module):
    """logit = w . x_L + b: x_{l+1} = relu(W_1 relu(W_0 x_l + b_0) + b_1 + x_l) (section "Residual
    Layers") of x_0, the embeddings side by side (section "Embedding and Stacking Layers")."""

    def __init__(self, sizes: Sizes, params: DeepCrossingParams) -> None:
        super().__init__()
        self.request, self.app = FieldEmbedding(sizes.request, params.dim), FieldEmbedding(sizes.app, params.dim)
        columns = (self.request.columns, self.app.columns, pair_numbers(sizes))
        first, *rest = residuals(columns, params)
        self.first, self.rest = first, nn.ModuleList(rest)
        self.head = Head(columns)
        self.halved: frozenset[str] = frozenset()
        self.additive = True

    def request_part(self, side: Side) -> Part:
        """Once per request: its values x_r (B, Wr) and W_0 x_r + b_0 of the first unit (B, H)."""
        x, first = self.request(side), self.first.first
        return {"x": x, "hidden": linear(x, first.request, first.bias)}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: its values x_a (B, Wa) and W_0 x_a of the first unit (B, H)."""
        x = self.app(side)
        return {"x": x, "hidden": linear(x, self.first.first.app)}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        hidden = request["hidden"] + app["hidden"] + linear(pair.dense, self.first.first.pair)
        x = self.first(beside(request["x"], app["x"], pair), hidden)
        for unit in cast(Iterable[Residual], self.rest):
            x = unit(x, unit.hidden(x))
        logits: Tensor = self.head(x)
        return logits
