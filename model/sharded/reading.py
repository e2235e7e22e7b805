"""The batches that one rank reads of its own shards: as many as every other rank, whatever the shards hold."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch

from model.batch import Batch
from model.sharded.frames import joined, selected, weightless
from model.sharded.shards import Shards, Split

FEWEST = 2
"""Rows of a batch, since batch norm has no variance of one."""

Order = tuple[int, int]
"""Seed and epoch that shards, and the rows of each, are shuffled by."""


@dataclass(frozen=True)
class Part:
    """One rank's part of a step. total: the rows that all ranks have in it; counted: how many of the batch's count."""

    batch: Batch
    counted: int
    total: int


@dataclass(frozen=True)
class Reader:
    """What a rank reads of a split, spread evenly over the steps, which are as many for all ranks.

    size: rows of a step over all ranks, up to a row a rank; done: rows of each shard that were read before, by ranks of
    another number; empty for none.
    """

    shards: Shards
    split: Split
    rank: int
    ranks: int
    size: int
    done: Sequence[int] = ()

    @cached_property
    def left(self) -> tuple[int, ...]:
        """How many rows of each shard there are to read."""
        rows = self.shards.contents.rows[self.split]
        return tuple(count - gone for count, gone in zip(rows, self.done or [0] * len(rows), strict=True))

    @cached_property
    def held(self) -> tuple[int, ...]:
        """How many rows each rank has to read. Raises ShardsUnusable where there are too few shards for all."""
        each = range(self.ranks)
        return tuple(sum(self.left[shard] for shard in self.shards.mine(rank, self.ranks)) for rank in each)

    @property
    def steps(self) -> int:
        """How many steps it takes until every rank has read all of its rows; one of them has rows in each step."""
        return -(-sum(self.held) // self.size)

    def before(self, step: int, rank: int | None = None) -> int:
        """How many rows a rank, by default this one, has read before a step."""
        return self.held[self.rank if rank is None else rank] * step // self.steps if step else 0

    def total(self, step: int) -> int:
        """Rows that all ranks together have in a step."""
        return sum(self.before(step + 1, rank) - self.before(step, rank) for rank in range(self.ranks))

    def parts(self, order: Order | None, *, skip: int = 0) -> Iterator[Part]:
        """This rank's part of every step but the first `skip`. order: None for rows as they lie.

        In a step that it has too few rows in, a rank takes part with rows that count nothing, so that no other waits
        for it in vain.
        """
        for step, batch in enumerate(self._batches(order, skip), start=skip):
            rows, counted = ([], 0) if batch is None else ([batch], len(batch))
            rows += [self._sample] * (FEWEST - counted)
            yield Part(joined(rows), counted, self.total(step))

    def after(self, order: Order, step: int) -> tuple[int, ...]:
        """`done` once all ranks have taken that many steps: whoever reads on from there reads every other row once."""
        read = [*self.done] or [0] * len(self.left)
        for rank in range(self.ranks):
            rows = self.before(step, rank)
            for shard in self._shuffled(order, rank):
                taken = min(rows, self.left[shard])
                read[shard] += taken
                rows -= taken
        return tuple(read)

    def _batches(self, order: Order | None, skip: int) -> Iterator[Batch | None]:
        """This rank's rows in each step but the first `skip`, None where it has none."""
        pieces = self._pieces(order, self.before(skip))
        piece, place = None, 0
        for step in range(skip, self.steps):
            wanted, found = self.before(step + 1) - self.before(step), []
            while wanted:
                if piece is None or place == len(piece):
                    piece, place = next(pieces), 0
                end = min(place + wanted, len(piece))
                found.append(selected(piece, torch.arange(place, end)))
                wanted, place = wanted - (end - place), end
            yield joined(found) if found else None

    def _pieces(self, order: Order | None, skip: int) -> Iterator[Batch]:
        """What is left of each of this rank's shards, but the first `skip` rows. A shard that is done is not read."""
        for shard in self._shuffled(order, self.rank):
            if skip >= self.left[shard]:
                skip -= self.left[shard]
                continue
            count = self.shards.contents.rows[self.split][shard]
            rows = _drawn(count, order, shard)[count - self.left[shard] + skip :]
            yield selected(self.shards.read(self.split, shard), rows)
            skip = 0

    def _shuffled(self, order: Order | None, rank: int) -> list[int]:
        mine = self.shards.mine(rank, self.ranks)
        return [mine[place] for place in _drawn(len(mine), order, -1).tolist()]

    @cached_property
    def _sample(self) -> Batch:
        """One row of this rank's, whichever, that counts nothing."""
        batch = self.shards.read(self.split, self.shards.mine(self.rank, self.ranks)[0])
        return weightless(selected(batch, torch.arange(1)))


def drawn_seed(*numbers: int) -> int:
    """A seed of their own for each of several numbers, the same wherever they are drawn."""
    words = [number & 0xFFFFFFFFFFFFFFFF for number in numbers]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0])


def _drawn(count: int, order: Order | None, what: int) -> torch.Tensor:
    """The numbers below `count`, as they are or in an order of their own for each seed, epoch and shard."""
    if order is None:
        return torch.arange(count)
    return torch.randperm(count, generator=torch.Generator().manual_seed(drawn_seed(*order, what + 1)))
