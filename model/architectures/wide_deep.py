"""Wide & Deep (Cheng et al. 2016, arXiv:1606.07792): a linear model that memorises beside a tower that generalises."""

from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from model.batch import Pair, Side, Sizes
from model.layers import MLP, Deep, Part, Wide
from model.tower import Width


class WideDeepParams(BaseModel):
    """Widths of the deep side; either half can be switched off."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    wide: bool = True
    deep: bool = True
    dim: int = Field(32, ge=1, le=1024)
    hidden: tuple[Width, ...] = Field((1024, 512, 256), min_length=1)
    batch_norm: bool = False
    dropout: float = Field(0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _one_half_at_least(self) -> "WideDeepParams":
        if not (self.wide or self.deep):
            raise ValueError("wide and deep are both off; keep one on")
        return self


class WideDeep(nn.Module):
    """logit = w . [x, phi(x)] + w_deep . a(l_f) + b (equation 3), both halves trained jointly under one loss."""

    def __init__(self, sizes: Sizes, params: WideDeepParams) -> None:
        super().__init__()
        mlp = MLP(params.hidden, batch_norm=params.batch_norm, dropout=params.dropout)
        self.wide = Wide(sizes) if params.wide else None
        self.deep = Deep(sizes, params.dim, mlp, first=params.hidden[0]) if params.deep else None
        self.halved = frozenset({"deep"} if params.deep else ())
        self.additive = True

    def request_part(self, side: Side) -> Part:
        """Once per request: wide (B,) and the first layer's request half (B, H)."""
        wide = {"wide": self.wide.request_part(side)} if self.wide else {}
        return wide | ({"deep": self.deep.request_part(side)} if self.deep else {})

    def app_part(self, side: Side) -> Part:
        """Once per app and version: wide (B,) and the first layer's app half (B, H)."""
        wide = {"wide": self.wide.app_part(side)} if self.wide else {}
        return wide | ({"deep": self.deep.app_part(side)} if self.deep else {})

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits of N candidates, of one request or of N."""
        logits = pair.dense.new_zeros(pair.dense.shape[0])
        if self.wide:
            logits = logits + request["wide"] + app["wide"] + self.wide.pair_part(pair)
        if self.deep:
            logits = logits + self.deep.tower(request["deep"] + app["deep"], pair)
        return logits
