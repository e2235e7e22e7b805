"""Factorization Machines (Rendle 2010, ICDM): every pair of fields by the product of their vectors.

x_i of a value in a bag of m is 1/m, in the linear term as in the vectors (as in his figure 1). A bag is one field
here: its own values do not meet each other.
"""

from torch import Tensor, nn

from model.batch import Pair, Side, Sizes
from model.interactions import FM, FieldVectors
from model.layers import Part, Wide
from model.tower import VectorParams


class FMParams(VectorParams):
    """The width of the vectors."""


class FactorizationMachine(nn.Module):
    """logit = w_0 + sum w_i x_i + sum over i < j of <v_i, v_j> x_i x_j of different fields (equation 1), by lemma 3.1.

    Each side leaves the sum of its vectors and of their squares, to which every field adds its own.
    """

    def __init__(self, sizes: Sizes, params: FMParams) -> None:
        super().__init__()
        self.linear = Wide(sizes, crossed=False, pooling="mean")
        self.request = FieldVectors(sizes.request, params.dim, summed=True)
        self.app = FieldVectors(sizes.app, params.dim, summed=True)
        self.pairs = FM(sizes, params.dim)
        self.halved: frozenset[str] = frozenset()
        self.additive = True

    def request_part(self, side: Side) -> Part:
        """Once per request: linear (B,), sum (B, K) and square (B,)."""
        return {"linear": self.linear.request_part(side), **self.pairs.part(self.request.of(side))}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: linear (B,), sum (B, K) and square (B,)."""
        return {"linear": self.linear.app_part(side), **self.pairs.part(self.app.of(side))}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        linear = request["linear"] + app["linear"] + self.linear.pair_part(pair)
        logits: Tensor = linear + self.pairs(request, app, pair)
        return logits
