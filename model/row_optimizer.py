"""What the optimizers of tables share: a recurrence per row, over dense gradients or the rows a sparse one names."""

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, overload

import torch
from torch import Tensor
from torch.optim import Optimizer

Moments = tuple[Tensor, ...]


class RowOptimizer(Optimizer):
    """An optimizer that keeps numbers beside each weight, or one beside each row.

    kept: their names in its state; counted: that of its count of steps.
    """

    kept: ClassVar[tuple[str, ...]]
    counted: ClassVar[str] = "steps"

    @abstractmethod
    def recurrence(
        self, weight: Tensor, moments: Moments, grad: Tensor, *, options: Mapping[str, Any]
    ) -> tuple[Tensor, Moments]:
        """Weight and moments after one step; options: the group's, and `step`, counted from 1.

        All are of the whole parameter, or of some rows of it.
        """

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
        return {**{name: torch.zeros_like(param) for name in self.kept}, self.counted: torch.zeros(())}

    def reconciled(self, param: Tensor, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """The state nearest to `state` that agrees with the parameter as it stands."""
        return dict(state)

    def whole(self, param: Tensor, state: Mapping[str, Tensor], grad: Tensor, *, options: Mapping[str, Any]) -> None:
        """One step of every row, in place."""
        moments = tuple(state[name] for name in self.kept)
        weight, fresh = self.recurrence(param, moments, grad, options=options)
        for tensor, value in zip((param, *moments), (weight, *fresh), strict=True):
            tensor.copy_(value)

    def _update(self, param: Tensor, gradient: Tensor, group: Mapping[str, Any]) -> None:
        state = self.state[param]
        if not state:
            state.update(self.initial(param, group))
        state[self.counted] += 1
        options = {**group, "step": state[self.counted].item()}
        if not gradient.is_sparse:
            self.whole(param, state, gradient, options=options)
            return
        rows, grad = rows_and_values(gradient)
        if not self.by_row(param, group):
            dense = torch.zeros_like(param).index_copy_(0, rows, grad)
            self.whole(param, state, dense, options=options)
            return
        tensors = (param, *(state[name] for name in self.kept))
        weight, *moments = (tensor.index_select(0, rows) for tensor in tensors)
        weight, fresh = self.recurrence(weight, tuple(moments), grad, options=options)
        for tensor, value in zip(tensors, (weight, *fresh), strict=True):
            tensor.index_copy_(0, rows, value)


def rows_and_values(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """A sparse gradient's rows (R,), none twice, and its values (R, ...).

    Autograd forgets that a gradient is coalesced when it hands it over; rows in rising order are.
    """
    rows = gradient._indices()[0]
    if not gradient.is_coalesced() and not bool((rows[1:] > rows[:-1]).all()):
        gradient = gradient.coalesce()
        rows = gradient._indices()[0]
    return rows, gradient._values()
