"""FNN (Zhang et al. 2016, arXiv:1601.02376): a tower over the weights and vectors of a factorization machine.

The machine is trained first and copied in (`model.pretraining`); then all of it is trained together. Hidden layers are
ReLU where the paper has tanh.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from model.batch import Pair, Side, Sizes
from model.blocks import Block, Per, pair_numbers
from model.interactions import FieldVectors, NumberVectors
from model.layers import Part
from model.tower import Tower, TowerParams


class FNNParams(TowerParams):
    """Widths of the tower.

    dim: of the machine's vectors; pretrain_epochs: how many epochs it is trained at most, 0 for not at all, and never
    more than the net itself may be.
    """

    pretrain_epochs: int = Field(10, ge=0)


class FNN(nn.Module):
    """z = (w_0, z_1, ..., z_n), z_i = (w_i, v_i) of each field (the embedding layer), and a tower over z."""

    def __init__(self, sizes: Sizes, params: FNNParams) -> None:
        super().__init__()
        width = params.dim + 1
        self.request, self.app = FieldVectors(sizes.request, width), FieldVectors(sizes.app, width)
        self.pair = NumberVectors(pair_numbers(sizes), width)
        constant = Block("w_0", 1, Per.PLACE)
        self.tower = Tower(((constant, *self.request.flat), self.app.flat, self.pair.flat), params)
        self.constant = nn.Parameter(torch.zeros(1))
        self.halved = frozenset({"deep"})
        self.additive = True

    def request_part(self, side: Side) -> Part:
        """Once per request: the first layer's request half, w_0's share in it, (B, H)."""
        z = torch.cat([self.constant.expand(len(side), 1), self.request.of(side).flatten(1)], dim=1)
        return {"deep": self.tower.request_part(z)}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: the first layer's app half, (B, H)."""
        return {"deep": self.tower.app_part(self.app.of(side).flatten(1))}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        logits: Tensor = self.tower(request["deep"] + app["deep"], self.pair(pair.dense).flatten(1))
        return logits
