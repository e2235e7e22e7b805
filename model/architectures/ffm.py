"""Field-aware Factorization Machines (Juan et al. 2016, RecSys): a value has a vector for every other field."""

from pydantic import Field
from torch import Tensor, nn

from model.batch import Pair, Side, Sizes
from model.interactions import FFM
from model.layers import Part, Wide
from model.tower import VectorParams


class FFMParams(VectorParams):
    """The width of each vector; 4 in the paper, since there are as many of them as fields."""

    dim: int = Field(4, ge=1, le=1024)


class FieldAwareFM(nn.Module):
    """logit = w_0 + sum w_i x_i + sum over i < j of <w_i,Fj, w_j,Fi> x_i x_j (equation 4, with linear terms
    and a bias, which the paper leaves out there)."""

    def __init__(self, sizes: Sizes, params: FFMParams) -> None:
        super().__init__()
        self.linear = Wide(sizes, crossed=False, pooling="mean")
        self.pairs = FFM(sizes, params.dim)
        self.halved: frozenset[str] = frozenset()
        self.additive = False  # a request's own pairs are no sum over its fields

    def request_part(self, side: Side) -> Part:
        """Once per request: linear (B,), its own pairs (B,), and its vectors for the others' fields."""
        return {"linear": self.linear.request_part(side), **self.pairs.request_part(side)}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: linear (B,), its own pairs (B,), and its vectors for the others' fields."""
        return {"linear": self.linear.app_part(side), **self.pairs.app_part(side)}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        linear = request["linear"] + app["linear"] + self.linear.pair_part(pair)
        logits: Tensor = linear + self.pairs(request, app, pair)
        return logits
