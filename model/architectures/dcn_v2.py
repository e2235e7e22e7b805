"""DCN V2 (Wang et al. 2021, arXiv:2008.13535), the parallel structure: cross layers beside a tower."""

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import linear

from model.batch import Pair, Side, Sizes
from model.blocks import pair_numbers
from model.layers import FieldEmbedding, Part
from model.stacked import Cross, Head, beside
from model.tower import Tower, TowerParams


class DCNv2Params(TowerParams):
    """Widths of the embeddings and the tower; cross_layers: how many, which bounds the degree of what they learn."""

    cross_layers: int = Field(3, ge=1, le=16)


class DCNv2(nn.Module):
    """logit = w . [x_L, h] (the parallel structure): x_{l+1} = x_0 * (W_l x_l + b_l) + x_l (equation 1) of
    the embeddings and continuous values x_0, and h, a tower's last layer over the same."""

    def __init__(self, sizes: Sizes, params: DCNv2Params) -> None:
        super().__init__()
        self.request, self.app = FieldEmbedding(sizes.request, params.dim), FieldEmbedding(sizes.app, params.dim)
        columns = (self.request.columns, self.app.columns, pair_numbers(sizes))
        self.cross, self.head = Cross(columns, params.cross_layers), Head(columns)
        self.tower = Tower(columns, params)
        self.halved = frozenset({"deep"})
        self.additive = True

    def request_part(self, side: Side) -> Part:
        """Once per request: its values x_r (B, Wr), W_0 x_r + b_0 (B, W) and the first layer's request half (B, H)."""
        x, first = self.request(side), self.cross.first
        return {"x": x, "mixed": linear(x, first.request, first.bias), "deep": self.tower.request_part(x)}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: its values x_a (B, Wa), W_0 x_a (B, W) and the first layer's app half (B, H)."""
        x = self.app(side)
        return {"x": x, "mixed": linear(x, self.cross.first.app), "deep": self.tower.app_part(x)}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        mixed = request["mixed"] + app["mixed"] + linear(pair.dense, self.cross.first.pair)
        crossed = self.head(self.cross(beside(request["x"], app["x"], pair), mixed))
        logits: Tensor = crossed + self.tower(request["deep"] + app["deep"], pair.dense)
        return logits
