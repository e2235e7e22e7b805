"""DeepFM (Guo et al. 2017, arXiv:1703.04247): a factorization machine and a tower that share their embeddings.

A continuous value enters the tower as it is (the paper's section 2 allows that); the machine gives it a vector.
"""

from torch import Tensor, nn

from model.batch import Pair, Side, Sizes
from model.blocks import pair_numbers
from model.interactions import FM, FieldVectors
from model.layers import FieldEmbedding, Part, Wide
from model.tower import Tower, TowerParams


class DeepFMParams(TowerParams):
    """Widths of the embeddings and the tower.

    shared: whether the tower reads the machine's embeddings, rather than its own, which the schema may give widths;
    wide: whether the linear part holds the schema's crosses too; without, it is the paper's.
    """

    shared: bool = True
    wide: bool = True


class DeepFM(nn.Module):
    """logit = y_FM + y_DNN (equation 1): y_FM = <w, x> + sum over i < j of <V_i, V_j> x_i x_j (equation 2) and a tower
    over the same embeddings (equations 3 and 4)."""

    def __init__(self, sizes: Sizes, params: DeepFMParams) -> None:
        super().__init__()
        self.linear = Wide(sizes, crossed=params.wide, pooling="mean")
        self.request = FieldVectors(sizes.request, params.dim, summed=True)
        self.app = FieldVectors(sizes.app, params.dim, summed=True)
        self.pairs = FM(sizes, params.dim)
        own = [] if params.shared else [FieldEmbedding(side, params.dim) for side in (sizes.request, sizes.app)]
        self.own = nn.ModuleList(own)
        request, app = own or (self.request, self.app)
        self.tower = Tower((request.columns, app.columns, pair_numbers(sizes)), params)
        self.halved = frozenset({"deep"})
        self.additive = True

    def request_part(self, side: Side) -> Part:
        """Once per request: linear (B,), sum (B, K), square (B,) and the first layer's request half (B, H)."""
        looked_up = self.request.looked_up(side)
        deep = self.tower.request_part(self.own[0](side) if len(self.own) else looked_up)
        return {"linear": self.linear.request_part(side), "deep": deep, **self.pairs.part(self.request(looked_up))}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: linear (B,), sum (B, K), square (B,) and the first layer's app half (B, H)."""
        looked_up = self.app.looked_up(side)
        deep = self.tower.app_part(self.own[1](side) if len(self.own) else looked_up)
        return {"linear": self.linear.app_part(side), "deep": deep, **self.pairs.part(self.app(looked_up))}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        linear = request["linear"] + app["linear"] + self.linear.pair_part(pair)
        logits: Tensor = linear + self.pairs(request, app, pair) + self.tower(request["deep"] + app["deep"], pair.dense)
        return logits
