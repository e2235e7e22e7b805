"""How often each value stood in a stream of numbers: exact for as many distinct ones as are kept, then nearly so."""

from collections.abc import Iterable
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from model.vocabulary import Floats, Quantiles

Ints = npt.NDArray[np.int64]
Number = TypeVar("Number", np.float64, np.int64)

MOST = 1 << 17
"""Distinct values that are kept, and keys that wait to be counted."""


class Spread:
    """Values and how often each stood, added piece by piece; only finite ones count.

    Beyond `most` distinct values neighbours are put together under the one in their middle, so that a fourth as many
    are left, each for as many numbers as any other. Each time that moves a rank by at most 4 / most of the numbers, up
    or down, and not the same way each time: fifty such times were seen to move none by more than 4 / most in all.
    """

    def __init__(self, *, most: int = MOST) -> None:
        self._most = most
        self._values, self._counts = _none(np.float64), _none(np.int64)
        self._waiting: list[tuple[Floats, Ints]] = []

    def add(self, values: Floats, counts: Ints | None = None) -> None:
        """Numbers (B,), each as often as `counts` (B,) says, else once."""
        finite = np.isfinite(values)
        self._waiting.append(added([(values[finite], _ones(values)[finite] if counts is None else counts[finite])]))
        if sum(len(one) for one, _ in self._waiting) > self._most:
            self._settle()

    def quantiles(self, count: int) -> Quantiles:
        """See `Quantiles.fit`."""
        self._settle()
        return Quantiles.of_counts(self._values, self._counts, quantiles=count)

    def _settle(self) -> None:
        self._values, self._counts = added([(self._values, self._counts), *self._waiting])
        self._waiting = []
        if len(self._values) > self._most:
            self._fold(self._most // 4)

    def _fold(self, parts: int) -> None:
        """Put neighbours together, under the one in the middle of their numbers."""
        ends = self._counts.cumsum()
        part = (2 * ends - self._counts) * parts // (2 * int(ends[-1]) + 1)  # that of the middle of a value's numbers
        begins = np.flatnonzero(np.append(True, part[1:] != part[:-1]))
        counts = np.add.reduceat(self._counts, begins)
        middles = np.searchsorted(ends, counts.cumsum() - counts // 2)
        self._values, self._counts = self._values[middles], counts


class KeyCounts:
    """How often each 64-bit key stood, added piece by piece; as many are held as there are distinct ones."""

    def __init__(self, *, at_once: int = MOST) -> None:
        self._at_once = at_once
        self._keys, self._counts = _none(np.int64), _none(np.int64)
        self._waiting: list[tuple[Ints, Ints]] = []

    def add(self, keys: Ints) -> None:
        """Keys (B,)."""
        self._waiting.append(np.unique(keys, return_counts=True))
        if sum(len(one) for one, _ in self._waiting) > max(self._at_once, len(self._keys)):
            self.counted()

    def counted(self) -> tuple[Ints, Ints]:
        """The keys, ascending, and how often each stood."""
        self._keys, self._counts = added([(self._keys, self._counts), *self._waiting])
        self._waiting = []
        return self._keys, self._counts


def added(parts: Iterable[tuple[npt.NDArray[Number], Ints]]) -> tuple[npt.NDArray[Number], Ints]:
    """The distinct values of all parts, ascending, and their counts added up."""
    values, counts = (np.concatenate(one) for one in zip(*parts, strict=True))
    distinct, inverse = np.unique(values, return_inverse=True)
    sums = np.zeros(len(distinct), dtype=np.int64)
    np.add.at(sums, inverse, counts)
    return distinct, sums


def _ones(values: Floats) -> Ints:
    return np.ones(len(values), dtype=np.int64)


def _none(kind: type[Number]) -> npt.NDArray[Number]:
    return np.empty(0, dtype=kind)
