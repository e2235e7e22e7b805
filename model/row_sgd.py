"""Stochastic gradient descent over tables."""

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from model.row_optimizer import Moments, RowOptimizer


class RowSGD(RowOptimizer):
    """w -= lr g in the rows that a gradient names. There is no momentum: it would move rows that no gradient names."""

    kept = ()

    def __init__(self, params: Iterable[Any], *, rate: float) -> None:
        super().__init__(params, {"lr": rate, "l2": 0.0})

    def recurrence(
        self, weight: Tensor, moments: Moments, grad: Tensor, *, options: Mapping[str, Any]
    ) -> tuple[Tensor, Moments]:
        """w -= lr (g + l2 w)."""
        return weight * (1 - options["lr"] * options["l2"]) - options["lr"] * grad, ()
