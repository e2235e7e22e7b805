"""The batches that one rank reads of its own shards: as many as every other rank, whatever the shards hold."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch

from model.batch import Batch
from model.sharded.frames import joined, selected, weightless
from model.sharded.shards import Shards, Split

FEWEST = 2
"""Rows of a batch, since batch norm has no variance of one."""


@dataclass(frozen=True)
class Part:
    """One rank's part of a step. total: the rows that all ranks have in it; counted: how many of the batch's count."""

    batch: Batch
    counted: int
    total: int


@dataclass(frozen=True)
class Reader:
    """What a rank reads of a split. size: rows of a step over all ranks."""

    shards: Shards
    split: Split
    rank: int
    ranks: int
    size: int

    @cached_property
    def mine(self) -> tuple[int, ...]:
        """The shards of this rank. Raises ShardsUnusable where there are too few for all."""
        return self.shards.mine(self.rank, self.ranks)

    @cached_property
    def held(self) -> tuple[int, ...]:
        """How many rows each rank has."""
        rows = self.shards.contents.rows[self.split]
        return tuple(sum(rows[shard] for shard in self.shards.mine(one, self.ranks)) for one in range(self.ranks))

    @cached_property
    def shares(self) -> tuple[int, ...]:
        """How many rows of a step each rank reads; one at least."""
        whole, left = divmod(self.size, self.ranks)
        return tuple(max(whole + (rank < left), 1) for rank in range(self.ranks))

    @property
    def steps(self) -> int:
        """How many batches it takes until every rank has read all of its rows."""
        return max(-(-held // share) for held, share in zip(self.held, self.shares, strict=True))

    def parts(self, order: tuple[int, int] | None, *, skip: int = 0) -> Iterator[Part]:
        """This rank's part of every step but the first `skip`.

        order: seed and epoch that shards, and the rows of each, are shuffled by; None for as they lie. A rank that has
        read all of its rows goes on with rows that count nothing, so that no other waits for it in vain.
        """
        share, sample = self.shares[self.rank], None
        waiting = self._rows(order, skip * share)
        for step in range(skip, self.steps):
            batch = next(waiting, None)
            counted = 0 if batch is None else len(batch)
            if batch is None or counted < FEWEST:
                sample = self._sample() if sample is None else sample
                batch = joined([*([batch] if batch else []), *[weightless(sample)] * (FEWEST - counted)])
            yield Part(batch, counted, self.total(step))

    def total(self, step: int) -> int:
        """Rows that all ranks together have in a step."""
        ranks = zip(self.held, self.shares, strict=True)
        return sum(min(max(held - step * share, 0), share) for held, share in ranks)

    def _rows(self, order: tuple[int, int] | None, skip: int) -> Iterator[Batch]:
        """This rank's rows but the first `skip`, in batches of its share. What is skipped whole is not read."""
        share, left = self.shares[self.rank], None
        for shard in self._shuffled(order):
            count = self.shards.contents.rows[self.split][shard]
            if skip >= count:
                skip -= count
                continue
            rows, skip = _drawn(count, order, shard)[skip:], 0
            batch = selected(self.shards.read(self.split, shard), rows)
            batch = joined([left, batch]) if left is not None else batch
            whole = len(batch) // share * share
            for start in range(0, whole, share):
                yield selected(batch, torch.arange(start, start + share))
            left = selected(batch, torch.arange(whole, len(batch))) if whole < len(batch) else None
        if left is not None:
            yield left

    def _shuffled(self, order: tuple[int, int] | None) -> list[int]:
        return [self.mine[place] for place in _drawn(len(self.mine), order, -1).tolist()]

    def _sample(self) -> Batch:
        """One row of this rank's, whichever."""
        shard = next(one for one in self.mine if self.shards.contents.rows[self.split][one])
        one = selected(self.shards.read(self.split, shard), torch.arange(1))
        return replace(one, weight=torch.zeros(1))


def _drawn(count: int, order: tuple[int, int] | None, what: int) -> torch.Tensor:
    """The numbers below `count`, as they are or in an order of their own for each seed, epoch and shard."""
    if order is None:
        return torch.arange(count)
    seed, epoch = order
    drawn = np.random.SeedSequence([seed & 0xFFFFFFFFFFFFFFFF, epoch, what + 1]).generate_state(1, np.uint64)
    return torch.randperm(count, generator=torch.Generator().manual_seed(int(drawn[0])))
