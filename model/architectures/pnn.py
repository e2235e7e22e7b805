"""Product-based Neural Networks (Qu et al. 2016, arXiv:1611.00144): products of the fields beside their embeddings.

The first layer holds a weight for each product. The paper also approximates those of the inner ones by
vectors; that is left out, since what belongs to one side is computed once and the rest is few. Its inner products of a
field with itself are left out too, and each pair, which it has both ways round, is there once.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from model.batch import Pair, Side, Sizes
from model.blocks import pair_numbers
from model.interactions import FieldVectors, NumberVectors, Products
from model.layers import Part
from model.tower import Tower, TowerParams


class PNNParams(TowerParams):
    """Widths of the embeddings and the tower, and which products there are."""

    product: Literal["inner", "outer", "both"] = "inner"


class PNN(nn.Module):
    """l_1 = relu(l_z + l_p + b_1) (the product layer) of z, the embeddings, and p, their products; then a tower."""

    def __init__(self, sizes: Sizes, params: PNNParams) -> None:
        super().__init__()
        summed = params.product != "inner"
        self.request = FieldVectors(sizes.request, params.dim, summed=summed)
        self.app = FieldVectors(sizes.app, params.dim, summed=summed)
        self.pair = NumberVectors(pair_numbers(sizes), params.dim, summed=summed)
        names = (self.request.names, self.app.names, tuple(block.owner for block in self.pair.columns))
        self.products = Products(names, params.dim, kind=params.product)
        plain = (self.request.columns, self.app.columns, self.pair.columns)
        request, app, pair = ((*z, *p) for z, p in zip(plain, self.products.columns, strict=True))
        self.tower = Tower((request, app, pair), params)
        self.halved = frozenset({"deep"})
        self.additive = params.product == "outer"  # a request's own inner products are no sum over its fields

    def request_part(self, side: Side) -> Part:
        """Once per request: the first layer's request half (B, H), vectors (B, Fr, K), their sum (B, K)."""
        z = self.request.looked_up(side)
        p, part = self.products.part(self.request(z))
        return {"deep": self.tower.request_part(torch.cat([z, p], dim=1)), **part}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: the first layer's app half (B, H), vectors (B, Fa, K), their sum (B, K)."""
        z = self.app.looked_up(side)
        p, part = self.products.part(self.app(z))
        return {"deep": self.tower.app_part(torch.cat([z, p], dim=1)), **part}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        across = self.products(request, app, self.pair(pair.dense))
        logits: Tensor = self.tower(request["deep"] + app["deep"], torch.cat([pair.dense, across], dim=1))
        return logits
