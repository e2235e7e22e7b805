"""Dropout whose masks are slices of numbers drawn beforehand: drawing them anew was two fifths of a step in bf16."""

import torch
from torch import Tensor, nn

CHUNK = 2**16
MOST_STARTS = 2**22


class MaskPool:
    """Masks for one probability of dropping: a long run of numbers that are 0, or 1 over the probability of keeping.

    Masks of integers are 0 or have every bit set: what is kept is the number that is masked by its bits, not scaled.

    They follow from the seed that torch's generator had when the pool was made, and where a mask begins among them is
    drawn from that generator: a run that goes on with the generator's state sees the masks that it would have seen.
    """

    def __init__(self, p: float) -> None:
        self.p, self._seed = p, torch.initial_seed()
        self._numbers = torch.empty(0)

    def mask(self, like: Tensor) -> Tensor:
        """A mask of the shape and type of `like`."""
        count = like.numel()
        starts = min(max(count, CHUNK), MOST_STARTS)
        if self._numbers.numel() < count + starts or self._numbers.dtype != like.dtype:
            self._numbers = self._drawn(-(-(count + starts) // CHUNK), like.dtype)
        start = int(torch.randint(starts, ()))
        return self._numbers[start : start + count].view(like.shape)

    def _drawn(self, chunks: int, dtype: torch.dtype) -> Tensor:
        """A longer run begins as a shorter one, so it does not matter which was asked for first."""
        source, numbers = torch.Generator().manual_seed(self._seed), torch.empty(chunks, CHUNK, dtype=dtype)
        for chunk in numbers:
            chunk.bernoulli_(1 - self.p, generator=source)
        return numbers.flatten() / (1 - self.p) if dtype.is_floating_point else -numbers.flatten()


class Dropout(nn.Dropout):
    """Dropout (Srivastava et al. 2014) with masks from a pool; on a GPU, where drawing costs little, torch's own."""

    def __init__(self, p: float, pool: MaskPool | None = None) -> None:
        super().__init__(p)
        self.pool = pool or MaskPool(p)

    def forward(self, values: Tensor) -> Tensor:
        """Values of the same shape; as they are in evaluation."""
        if not self.training or not self.p or values.device.type != "cpu":
            return super().forward(values)
        return values * self.pool.mask(values)
