"""What FTRL and Adam share: a recurrence per coordinate, over dense gradients or the rows a sparse one names."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

Moments = tuple[Tensor, Tensor]


class RowOptimizer(Optimizer):
    """An optimizer that keeps two numbers beside each weight. kept: their names in its state."""

    kept: ClassVar[tuple[str, str]]

    @abstractmethod
    def recurrence(
        self, weight: Tensor, moments: Moments, grad: Tensor, *, options: Mapping[str, Any]
    ) -> tuple[Tensor, Moments]:
        """Weight and moments after one step, all of one shape; options: the group's, and `step`, counted from 1."""

    def by_row(self, param: Tensor, options: Mapping[str, Any]) -> bool:
        """Whether a sparse gradient leaves the rows it does not name alone."""
        return True

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

    def initial(self, param: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """The state of a parameter before its first step, by name."""
        first, second = self.kept
        return {first: torch.zeros_like(param), second: torch.zeros_like(param), "steps": torch.zeros(())}

    def reconciled(self, param: Tensor, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """The state nearest to `state` that agrees with the parameter as it stands."""
        return dict(state)

    def _update(self, param: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state, (first, second) = self.state[param], self.kept
        if not state:
            state.update(self.initial(param, group))
        state["steps"] += 1
        options = {**group, "step": state["steps"].item()}
        tensors = (param, state[first], state[second])
        if gradient.is_sparse and self.by_row(param, group):
            grad = gradient.coalesce()
            rows = grad.indices()[0]
            weight, one, two = (tensor[rows] for tensor in tensors)
            weight, moments = self.recurrence(weight, (one, two), grad.values(), options=options)
            for tensor, fresh in zip(tensors, (weight, *moments), strict=True):
                tensor[rows] = fresh
            return
        grad = gradient.to_dense() if gradient.is_sparse else gradient
        weight, moments = self.recurrence(param, (state[first], state[second]), grad, options=options)
        for tensor, fresh in zip(tensors, (weight, *moments), strict=True):
            tensor.copy_(fresh)
