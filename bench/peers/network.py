"""Wide & Deep in plain torch, as most people write it: a row of 1200 inputs for each candidate."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from bench.peers.messages import Answer, Body
from bench.peers.work import Array, Encoded, Work


class WideAndDeep(nn.Module):
    """The tower over embeddings and continuous values, and the linear half over ids, values and crosses."""

    def __init__(self, arrays: Mapping[str, Array], dtype: torch.dtype) -> None:
        super().__init__()
        given = {name: torch.from_numpy(array) for name, array in arrays.items()}
        self.dtype = dtype
        self.embedding = nn.ModuleDict({side: _embedding(given[f"{side}.embedding"]) for side in ("request", "app")})
        self.wide = nn.ModuleDict({side: _embedding(given[f"{side}.wide"][:, None]) for side in ("request", "app")})
        self.crosses = nn.EmbeddingBag(
            len(given["crosses.wide"]), 1, mode="sum", _weight=given["crosses.wide"][:, None]
        )
        self.request_dense, self.app_dense = given["request.wide_dense"], given["app.wide_dense"]
        self.bias = given["bias"]
        layers = [_linear(given[f"layer{place}.weight"], given[f"layer{place}.bias"]) for place in range(4)]
        relus = [nn.ReLU() for _ in layers[1:]]
        paired = [part for pair in zip(layers, relus, strict=False) for part in pair]
        self.tower = nn.Sequential(*paired, layers[-1]).to(dtype)

    def forward(self, encoded: Encoded) -> Tensor:
        """(N,) logits."""
        request_ids, request_dense, app_ids, app_dense, crosses = map(
            torch.from_numpy,
            (encoded.request_ids, encoded.request_dense, encoded.app_ids, encoded.app_dense, encoded.crosses),
        )
        request = torch.cat([request_dense, self.embedding["request"](request_ids).flatten()])
        apps = [app_dense, self.embedding["app"](app_ids).flatten(1)]
        inputs = torch.cat([request.expand(len(app_ids), -1), *apps], dim=1)
        deep = self.tower(inputs.to(self.dtype)).float()[:, 0]
        mine = self.wide["request"](request_ids).sum() + request_dense @ self.request_dense
        theirs = self.wide["app"](app_ids).sum((1, 2)) + app_dense @ self.app_dense
        return torch.as_tensor(deep + mine + theirs + self.crosses(crosses)[:, 0] + self.bias)


def _embedding(table: Tensor) -> nn.Embedding:
    rows, width = table.shape
    return nn.Embedding(rows, width, _weight=table).requires_grad_(False)


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
    return layer


class TorchRanker:
    """Bodies to answers. precision: `fp32`, or `bf16` for the tower."""

    def __init__(self, work: Work, precision: str) -> None:
        self._work = work
        self._net = WideAndDeep(work.arrays, torch.bfloat16 if precision == "bf16" else torch.float32).eval()

    @torch.inference_mode()
    def rank(self, body: Body) -> Answer:
        """The best `k`."""
        scores = torch.sigmoid(self._net(self._work.encode(body.user.id, body.context, body.candidates)))
        best, places = scores.topk(min(body.k, len(scores)))
        return Answer.of(body.candidates, places.tolist(), scores=best.tolist())
