"""A tower of hidden layers over values that were looked up already, cut at its first layer, and its parameters."""

from collections.abc import Sequence
from typing import Annotated

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from model.blocks import Block
from model.layers import MLP, SplitLinear

Columns = tuple[Sequence[Block], Sequence[Block], Sequence[Block]]
"""Whose the values of the request, of the app and of the pair are."""

Width = Annotated[int, Field(ge=1)]


class NetParams(BaseModel):
    """What the parameters of every family have in common: they do not change, and an unknown one is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class VectorParams(NetParams):
    """dim: the width of the vectors that are multiplied with each other, the same for every field."""

    dim: int = Field(16, ge=1, le=1024)


class TowerParams(VectorParams):
    """Widths of the embeddings and of the hidden layers, and what training does to these."""

    hidden: tuple[Width, ...] = Field((1024, 512, 256), min_length=1)
    batch_norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)


class Tower(nn.Module):
    """ReLU layers down to one logit over the values of both sides and of the pair, cut at its first layer.

    `model.layers.Deep` is one that does the looking up too.
    """

    def __init__(self, columns: Columns, params: TowerParams) -> None:
        super().__init__()
        self.first = SplitLinear(columns, params.hidden[0])
        self.mlp = MLP(params.hidden, batch_norm=params.batch_norm, dropout=params.dropout)

    def request_part(self, values: Tensor) -> Tensor:
        """(B, H): W_r r + b."""
        return F.linear(values, self.first.request, self.first.bias)

    def app_part(self, values: Tensor) -> Tensor:
        """(B, H): W_a a."""
        return F.linear(values, self.first.app)

    def forward(self, hidden: Tensor, values: Tensor) -> Tensor:
        """(N,) logits from the two sides' sum (N, H) and the pair's values."""
        return torch.as_tensor(self.mlp(self.first.with_pair(hidden, values)))
