"""What a request's part and its candidates' part add up to, made a block at a time on the way into the hidden layers.

A block stays in the processor's second cache from the moment it is gathered until it has been multiplied, and no more
than a block is ever held.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise

import torch
from torch import Tensor

ROWS_AT_ONCE = 416
"""Rows of a block: a thousand bf16 values of each are most of a cache of 1 MiB, and two requests of 200 candidates fit.

Beside one request a block, two cost an eighth less with 8 connections and a twentieth less with 32; four, no less.
"""

ROWS_A_STEP = 8
"""What the rows of a block are rounded up to. oneDNN makes and keeps a kernel for each number of rows that it meets, at
milliseconds and half a MiB each, so there are to be few."""

Span = tuple[int, int, int]
"""The place of a request, and the first and the end of some of its rows among those of all."""


class Sums:
    """The sums (N, H) for N candidates of R requests.

    take: the part of the apps at some rows of a table, which may be overwritten; rows: (N,) of that table, those of one
    request after those of another; mine: (R, H) the requests' part, of the type that `take` gives; counts: R numbers
    of rows.
    """

    def __init__(self, take: Callable[[Tensor], Tensor], rows: Tensor, *, mine: Tensor, counts: Sequence[int]) -> None:
        self._take, self._rows, self._mine, self._counts = take, rows, mine, counts
        self._added: tuple[Callable[[slice], Tensor], ...] = ()

    def __add__(self, other: "Tensor | Added") -> "Sums":
        """The sums with `other` (N, H) added."""
        return self if isinstance(other, Added) else self.with_rows(lambda rows: other[rows])

    __radd__ = __add__

    def with_rows(self, more: Callable[[slice], Tensor]) -> "Sums":
        """The sums with (M, H) added to each block, told by the M rows that it is of."""
        sums = Sums(self._take, self._rows, mine=self._mine, counts=self._counts)
        sums._added = (*self._added, more)
        return sums

    def __iter__(self) -> Iterator[tuple[Tensor, int]]:
        """Blocks (M, H) of the sums, in order, each of which may be overwritten, and how many of its rows count."""
        for block in blocks(self._counts):
            start, stop = block[0][1], block[-1][2]
            sums = self._take(stepped(self._rows[start:stop]))
            for place, first, last in block:
                sums[first - start : last - start].add_(self._mine[place])
            for more in self._added:
                sums[: stop - start].add_(more(slice(start, stop)))
            yield sums, stop - start


class Added:
    """The part of a request that has been added to its candidates' already: adding it changes nothing."""

    def __add__(self, other: Sums) -> Sums:
        return other

    __radd__ = __add__


def stepped(rows: Tensor) -> Tensor:
    """These rows (M, ...), the last of them repeated until there is a multiple of ROWS_A_STEP."""
    short = -len(rows) % ROWS_A_STEP
    return torch.cat([rows, rows[-1:].expand(short, *rows.shape[1:])]) if short and len(rows) else rows


def blocks(counts: Sequence[int]) -> Iterator[list[Span]]:
    """The rows of requests in blocks of at most ROWS_AT_ONCE; a long request is cut into even pieces."""
    block: list[Span] = []
    for span in _spans(counts):
        if block and span[2] - block[0][1] > ROWS_AT_ONCE:
            yield block
            block = []
        block.append(span)
    if block:
        yield block


def _spans(counts: Sequence[int]) -> Iterator[Span]:
    start = 0
    for place, count in enumerate(counts):
        pieces = -(-count // ROWS_AT_ONCE)
        bounds = [start + count * piece // pieces for piece in range(pieces + 1)] if pieces else []
        yield from ((place, first, last) for first, last in pairwise(bounds))
        start += count
