"""fp32 numbers as two 16-bit halves: the upper one is the nearest bf16, and both together are the number, bit for bit.

bits = (hi << 16) + lo modulo 2^32, hi rounded half up and lo the signed rest, so that a table stored in halves takes
no more room than in fp32 and whoever needs bf16 alone reads half of it.
"""

import torch
from torch import Tensor

HALF_UP = 1 << 15
HALF_BITS = 16


def split(x: Tensor) -> tuple[Tensor, Tensor]:
    """The upper half as bfloat16 and the rest as int16, both of the shape of `x`, which is float32."""
    bits = x.contiguous().view(torch.int32)
    upper = (bits + HALF_UP) >> HALF_BITS
    return upper.to(torch.int16).view(torch.bfloat16), (bits - (upper << HALF_BITS)).to(torch.int16)


def join(hi: Tensor, lo: Tensor) -> Tensor:
    """Undo `split`: float32 of the same bits."""
    return hi.float().view(torch.int32).add_(lo).view(torch.float32)
