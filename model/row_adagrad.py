"""AdaGrad over tables, with an accumulator for each weight or one for each row."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from model.row_optimizer import Moments, RowOptimizer

EPS = 1e-10


class RowAdagrad(RowOptimizer):
    """AdaGrad (Duchi et al. 2011, Figure 1 with a diagonal G) for dense and row-sparse gradients.

    A row without a gradient stays as it is, which is what dense AdaGrad does too. row_wise: one accumulator for a row,
    of its gradient's mean square (as FBGEMM's and TorchRec's row-wise AdaGrad): a K-th of the state and less to move.
    The state of either has the names that torch's own AdaGrad uses.
    """

    kept = ("sum",)
    counted = "step"

    def __init__(self, params: Iterable[Any], options: Mapping[str, Any]) -> None:
        super().__init__(params, {"lr": 0.01, "initial": 0.0, "row_wise": False} | dict(options))

    def initial(self, param: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """The accumulators as they begin."""
        like = param[:, :1] if options["row_wise"] else param
        return {"sum": torch.full_like(like, options["initial"]), "step": torch.zeros(())}

    def recurrence(
        self, weight: Tensor, moments: Moments, grad: Tensor, *, options: Mapping[str, Any]
    ) -> tuple[Tensor, Moments]:
        """G += g^2, or the mean of g^2 over the row; w -= lr g / (sqrt(G) + eps)."""
        (past,) = moments
        if options["row_wise"]:
            total = past + grad.square().mean(1, keepdim=True)
            return weight - grad * (options["lr"] / (total.sqrt() + EPS)), (total,)
        total = torch.addcmul(past, grad, grad)
        return torch.addcdiv(weight, grad, total.sqrt().add_(EPS), value=-options["lr"]), (total,)
