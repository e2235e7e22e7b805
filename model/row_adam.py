"""Adam over tables whose gradients name a few rows, with an L2 that also reaches the rows a batch leaves out."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, overload

import torch
from torch import Tensor
from torch.optim import Optimizer


class RowAdam(Optimizer):
    """Adam (Kingma & Ba 2015, Algorithm 1) on the rows a sparse gradient names, dense gradients as usual."""

    def __init__(self, params: Iterable[Any], *, rate: float) -> None:
        super().__init__(
            params, {"lr": rate, "beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "l2": 0.0, "lazy_above": 4_000_000}
        )

    @overload
    def step(self, closure: None = None) -> None: ...

    @overload
    def step(self, closure: Callable[[], float]) -> float: ...

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for param in group["params"]:
                if param.grad is not None:
                    self._update(param, param.grad, group)
        return None

    def _update(self, param: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[param]
        if not state:
            state.update(m=torch.zeros_like(param), v=torch.zeros_like(param), steps=torch.zeros(()))
        state["steps"] += 1
        now = {**group, "step": state["steps"].item()}
        if gradient.is_sparse and param.numel() > group["lazy_above"]:
            grad = gradient.coalesce()
            rows = grad.indices()[0]
            before = (param[rows], state["m"][rows], state["v"][rows])
            param[rows], state["m"][rows], state["v"][rows] = adam_update(before, grad.values(), now)
            return
        grad = gradient.to_dense() if gradient.is_sparse else gradient
        w, state["m"], state["v"] = adam_update((param, state["m"], state["v"]), grad, now)
        param.copy_(w)


def adam_update(
    before: tuple[Tensor, Tensor, Tensor], grad: Tensor, options: Mapping[str, Any]
) -> tuple[Tensor, Tensor, Tensor]:
    """(w, m, v) after one step, counted from 1, from (w, m, v) and a gradient, all of one shape."""
    w, m, v = before
    g = grad + options["l2"] * w
    m = m.lerp(g, 1 - options["beta1"])
    v = v * options["beta2"] + (1 - options["beta2"]) * g * g
    denominator = (v / (1 - options["beta2"] ** options["step"])).sqrt() + options["eps"]
    return w - options["lr"] * m / (1 - options["beta1"] ** options["step"]) / denominator, m, v
