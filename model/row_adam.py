"""Adam over tables whose gradients name a few rows, with an L2 that, on small tables, also reaches the others."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor, float32, tensor
from torch.optim.adam import adam

from model.row_optimizer import Moments, RowOptimizer


class RowAdam(RowOptimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1) for dense and row-sparse gradients.

    A table of more than `lazy_above` numbers is updated in the rows that its gradient names; a smaller one whole, as
    dense Adam would, so that L2 shrinks rare rows between their gradients.
    """

    kept = ("m", "v")

    def __init__(self, params: Iterable[Any], *, rate: float) -> None:
        super().__init__(
            params, {"lr": rate, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "l2": 0.0, "lazy_above": 4_000_000}
        )

    def by_row(self, param: Tensor, options: Mapping[str, Any]) -> bool:
        """True for a large table."""
        return param.numel() > int(options["lazy_above"])

    def recurrence(
        self, weight: Tensor, moments: Moments, grad: Tensor, *, options: Mapping[str, Any]
    ) -> tuple[Tensor, Moments]:
        """m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; both unbiased; w -= lr m / (sqrt(v) + eps)."""
        g = grad + options["l2"] * weight
        m = moments[0].lerp(g, 1 - options["beta1"])
        v = moments[1] * options["beta2"] + (1 - options["beta2"]) * g * g
        denominator = (v / (1 - options["beta2"] ** options["step"])).sqrt() + options["eps"]
        return weight - options["lr"] * m / (1 - options["beta1"] ** options["step"]) / denominator, (m, v)

    def whole(self, param: Tensor, state: Mapping[str, Tensor], grad: Tensor, *, options: Mapping[str, Any]) -> None:
        """The same recurrence in one pass over the memory, by torch's fused Adam, where it has the type."""
        if param.dtype is not float32:
            super().whole(param, state, grad, options=options)
            return
        before = tensor(options["step"] - 1.0, device=param.device)
        adam(
            [param], [grad], [state["m"]], [state["v"]], [], [before], fused=True,
            amsgrad=False, maximize=False, lr=options["lr"], beta1=options["beta1"], beta2=options["beta2"],
            eps=options["eps"], weight_decay=options["l2"],
        )  # fmt: skip
