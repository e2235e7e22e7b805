"""The order of an answer: the best of what was scored, and popularity for when there is no time to score."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt
from msgspec import Struct

Scores = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]

FEW = 64  # scores that are sorted as fast as they are thinned out


class Ranked(Struct, frozen=True):
    """One app of an answer and its probability. row: where the table has it.

    A Struct, since ten are made for each answer and a frozen dataclass takes five times as long.
    """

    app_id: str
    score: float
    row: int = -1


class Top:
    """The k highest of any number of scores: highest first, ties by app id, so that equal input gives equal output.

    ids: of a table; scores come with rows of it.
    """

    def __init__(self, k: int, ids: Sequence[str]) -> None:
        self._k, self._ids = k, ids
        self._found: list[tuple[float, str, int]] = []  # minus the score, the id, the row: in order of themselves

    def add(self, scores: Scores, rows: Rows) -> None:
        """Take in scores (n,) of the apps at `rows` (n,), of which none was here before."""
        if len(scores) > FEW:
            chosen = np.flatnonzero(scores >= self._least(scores))
            scores, rows = scores[chosen], rows[chosen]
        ids = self._ids
        fresh = [(-score, ids[row], row) for score, row in zip(scores.tolist(), rows.tolist(), strict=True)]
        self._found = sorted(self._found + fresh)[: self._k]

    def ranked(self) -> tuple[Ranked, ...]:
        """The best so far."""
        return tuple([Ranked(app_id, -inverted, row) for inverted, app_id, row in self._found])

    def _least(self, scores: Scores) -> float:
        """What a score must reach to be among the k best; every app tied with the k-th does, and the id decides."""
        if len(self._found) == self._k:
            return -self._found[-1][0]
        return kth(scores, self._k)


def best(scores: Scores, rows: Rows, *, ids: Sequence[str], k: int) -> tuple[Ranked, ...]:
    """The k highest of N scores (N,) of the apps at `rows` (N,) of the table that `ids` are of, highest first."""
    top = Top(k, ids)
    top.add(scores, rows)
    return top.ranked()


def kth(scores: Scores, k: int) -> float:
    """The k-th highest score; minus infinity where there are not so many."""
    if len(scores) < k:
        return -np.inf
    return float(np.partition(scores, len(scores) - k)[len(scores) - k])


def popularity_of(ids: Iterable[str], popularity: Mapping[str, int], *, total: int) -> Scores:
    """(N,) each app's share of all `total` that was taken in training."""
    counts = np.array([popularity.get(app_id, 0) for app_id in ids], dtype=np.float64)
    return counts / max(1, total)
