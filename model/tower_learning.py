"""How a tower runs while it learns on a processor: the function of its layers, in fewer passes over the activations.

A batch of 4096 rows has ten times as many activations as a layer has weights, and each pass over them widens bfloat16,
computes and rounds again. So a ReLU's gradient and a dropout's mask are taken by the numbers' bits; a dropout's factor
is put on the weights that follow; and a bias that a batch norm takes away again is only added to its mean.
"""

from collections.abc import Iterable
from itertools import pairwise
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from model.dropout import Dropout

INTEGERS = {torch.bfloat16: torch.int16, torch.float32: torch.int32, torch.float64: torch.int64}


def learned(layers: Iterable[nn.Module], hidden: Tensor) -> Tensor:
    """What the layers of a tower give in training for `hidden`, which is overwritten: (N, H) -> (N, 1)."""
    gain, shift = 1.0, None
    for layer, following in pairwise([*layers, None]):
        match layer:
            case nn.BatchNorm1d():
                hidden = _normalised(layer, hidden, shift)
            case nn.ReLU():
                hidden = rectified(hidden, following if isinstance(following, Dropout) else None)
            case Dropout():  # its mask was part of the ReLU before it
                gain = 1 / (1 - layer.p)
            case nn.Linear():
                shift = layer.bias if isinstance(following, nn.BatchNorm1d) else None
                weight = layer.weight if gain == 1 else layer.weight * gain
                hidden, gain = F.linear(hidden, weight, layer.bias if shift is None else None), 1.0
            case _:
                raise TypeError(
                    f"a tower of {type(layer).__name__} is not known; it has linear layers and what follows"
                )
    return hidden


def rectified(values: Tensor, dropout: Dropout | None = None) -> Tensor:
    """ReLU of `values`, which are overwritten; some of them dropped, and those that are kept not scaled."""
    mask = dropout.pool.mask(_bits(values)) if dropout is not None and dropout.p else None
    return torch.as_tensor(_Rectified.apply(values, mask))  # type: ignore[no-untyped-call]  # torch ships it untyped


def _normalised(norm: nn.BatchNorm1d, values: Tensor, shift: Tensor | None) -> Tensor:
    """The batch norm of `values` + `shift` (H,): it gives what it would without, and only remembers another mean."""
    if shift is None or norm.running_mean is None or norm.momentum is None:
        return torch.as_tensor(norm(values if shift is None else values + shift))
    mean = norm.running_mean - shift.detach()
    bias = norm.bias + 0 * shift  # so that optimizers see its gradient, which is nought
    normal = F.batch_norm(values, mean, norm.running_var, norm.weight, bias, True, norm.momentum, norm.eps)
    norm.running_mean.copy_(mean + shift.detach())
    norm.get_buffer("num_batches_tracked").add_(1)
    return normal


def _bits(values: Tensor) -> Tensor:
    """The same memory as integers, which are positive where the numbers are."""
    return values.view(INTEGERS[values.dtype])


class _Context(Protocol):
    """What is kept between the two directions."""

    saved_tensors: tuple[Tensor, ...]

    def save_for_backward(self, *tensors: Tensor) -> None: ...

    def mark_dirty(self, *tensors: Tensor) -> None: ...


class _Rectified(Function):
    @staticmethod
    def forward(ctx: _Context, values: Tensor, mask: Tensor | None) -> Tensor:
        out = F.relu(values, inplace=True)  # and not by bits: what is no number has to stay none, or nobody sees it
        if mask is not None:
            _bits(out).bitwise_and_(mask)
        ctx.mark_dirty(values)
        ctx.save_for_backward(out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: _Context, gradient: Tensor) -> tuple[Tensor, None]:
        (out,) = ctx.saved_tensors
        passed = torch.ops.aten.threshold_backward(_bits(gradient.contiguous()), _bits(out), 0)
        return passed.view(gradient.dtype), None
