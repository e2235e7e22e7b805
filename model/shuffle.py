"""The order in which an epoch sees its rows: drawn from the seed and the epoch alone, so that it can be drawn again."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

BLOCKS = 64


@dataclass(frozen=True)
class Shuffle:
    """Batches of `size` of `rows` rows.

    Up to `window` rows are permuted whole. More are cut into blocks, BLOCKS of them to a window: the blocks are put
    into a random order and the rows of each window permuted, so that at any time a window of the log is read and not
    all of it (the two levels of CorgiPile: Xu et al. 2022, Stochastic gradient descent without full data shuffle).
    """

    rows: int
    size: int
    seed: int
    window: int

    @property
    def steps(self) -> int:
        """How many batches an epoch has."""
        whole, left = divmod(self.rows, self.size)
        return whole + (left > 1 or (left == 1 and not whole))

    def batches(self, epoch: int) -> Iterator[Tensor]:
        """Every row once, (B,) int64 a batch.

        A last row left over joins the batch before it, since batch norm has no variance of one row to divide by.
        """
        left, waiting = torch.empty(0, dtype=torch.int64), None
        for rows in self._windows(epoch):
            rows = torch.cat([left, rows])
            whole = len(rows) // self.size * self.size
            for batch in torch.split(rows[:whole], self.size) if whole else ():
                if waiting is not None:
                    yield waiting
                waiting = batch
            left = rows[whole:]
        if len(left) == 1 and waiting is not None:
            waiting, left = torch.cat([waiting, left]), left[1:]
        yield from (batch for batch in (waiting, left) if batch is not None and len(batch))

    def _windows(self, epoch: int) -> Iterator[Tensor]:
        """Every row once, a window at a time."""
        drawn = np.random.SeedSequence([self.seed & 0xFFFFFFFFFFFFFFFF, epoch]).generate_state(1, np.uint64)
        source = torch.Generator().manual_seed(int(drawn[0]))
        if self.rows <= self.window:
            yield torch.randperm(self.rows, generator=source)
            return
        length = max(self.window // BLOCKS, 1)
        for blocks in torch.split(torch.randperm(-(-self.rows // length), generator=source), BLOCKS):
            rows = (blocks[:, None] * length + torch.arange(length)).flatten()
            rows = rows[rows < self.rows]
            yield rows[torch.randperm(len(rows), generator=source)]
