"""Logistic regression over the raw fields, the baseline of every paper here: logit = w . x + b, without any cross."""

from torch import Tensor, nn

from model.batch import Pair, Side, Sizes
from model.layers import Part, Wide
from model.tower import NetParams


class LRParams(NetParams):
    """There are none: a weight per value is all there is."""


class LR(nn.Module):
    """logit = w . x + b (Cheng et al. 2016, section 3.1, with the raw values alone for x)."""

    def __init__(self, sizes: Sizes, params: LRParams) -> None:
        super().__init__()
        self.linear = Wide(sizes, crossed=False)
        self.halved: frozenset[str] = frozenset()
        self.additive = True

    def request_part(self, side: Side) -> Part:
        """Once per request: the sum of its weights, (B,)."""
        return {"linear": self.linear.request_part(side)}

    def app_part(self, side: Side) -> Part:
        """Once per app and version: the sum of its weights, (B,)."""
        return {"linear": self.linear.app_part(side)}

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        return request["linear"] + app["linear"] + self.linear.pair_part(pair)
