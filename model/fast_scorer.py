"""Scores many requests together in a few instructions a candidate, beside the plain `Scorer` that is its reference.

`fast` reads the app table as bfloat16 and multiplies in it where the processor can. `exact` does the same first, and
then scores again in float32 every candidate that its rounding may have kept from the k best.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from math import inf, isfinite
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.query import Query
from model.quick import best_dtype
from model.request_side import Encoded, RequestSide
from model.scorer import Scorer
from model.scoring_pass import Candidates, ScoringPass

Floats = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

REACH = 4.0
"""Measured errors within which the first pass cannot tell a candidate from the k-th.

Rounding parts two of them by twice the error at most; twice that, since what was measured is a sample's largest.
"""

SURE = 30.0
"""A logit from which on probabilities in double precision tie though their logits differ by more than any rounding."""


class Precision(StrEnum):
    """How closely the k best follow the float32 reference."""

    EXACT = "exact"
    FAST = "fast"


@dataclass(frozen=True)
class Ask(Candidates):
    """The k best are wanted of some candidates."""

    k: int


@dataclass(frozen=True)
class Best:
    """Every candidate that may be among the k best, those tied with the k-th too, in no order.

    places: (m,) among the candidates asked for; scores: (m,) their probabilities.
    """

    places: Places
    scores: Floats


class FastScorer:
    """A scorer's answers to many requests at once, each as if it had been asked alone.

    error: the largest difference between a logit of the first pass and the reference's that was measured on this
    machine; users: how many users' side is kept, those seen last.
    """

    def __init__(self, scorer: Scorer, *, precision: Precision, error: float, users: int = 10_000) -> None:
        self.scorer, self.precision = scorer, precision
        self._error = error
        self._requests = RequestSide(scorer, users=users)
        dtype = best_dtype()
        rounds = precision is Precision.EXACT and dtype is not torch.float32
        with torch.inference_mode():
            self._first = ScoringPass(scorer, self._requests, dtype)
            self._second = ScoringPass(scorer, self._requests, torch.float32) if rounds else None

    def encode(self, query: Query) -> Encoded:
        """The query's side. Raises ValueRefused where a value does not fit its field."""
        return self._requests.encode(query)

    def recent(self) -> list[Query]:
        """The last query of each user that was encoded lately."""
        return self._requests.recent()

    @torch.inference_mode()
    def best(self, asks: Sequence[Ask]) -> list[Best]:
        """The best of each ask, in their order."""
        if self._second is None:
            return [_best(ask, scores) for ask, scores in zip(asks, self._scores(self._first, asks), strict=True)]
        near = self._near(asks)
        nearer = [replace(ask, rows=ask.rows[torch.from_numpy(places)]) for ask, places in zip(asks, near, strict=True)]
        found = [_best(ask, scores) for ask, scores in zip(nearer, self._scores(self._second, nearer), strict=True)]
        return [Best(places[best.places], best.scores) for places, best in zip(near, found, strict=True)]

    @torch.inference_mode()
    def scores(self, ask: Ask) -> Floats:
        """(N,) every candidate's probability after the first pass."""
        return self._scores(self._first, [ask])[0]

    def _near(self, asks: Sequence[Ask]) -> list[Places]:
        """The places of the candidates that the first pass cannot tell from the k best; all, where that is most."""
        near = [np.arange(len(ask.rows)) for ask in asks]
        unclear = [place for place, ask in enumerate(asks) if 2 * ask.k < len(ask.rows) and isfinite(self._error)]
        passed = _by_ask(self._first.logits([asks[place] for place in unclear]), [asks[place] for place in unclear])
        for place, logits in zip(unclear, passed, strict=True):
            least = min(_kth(logits, asks[place].k) - REACH * self._error, SURE - self.scorer.log_rate)
            close = np.flatnonzero(logits >= least)
            near[place] = close if 2 * len(close) < len(logits) else near[place]
        return near

    def _scores(self, one: ScoringPass, asks: Sequence[Ask]) -> list[Floats]:
        """The probabilities of every candidate of each ask, those of `Scorer.score`."""
        return _by_ask(torch.sigmoid(one.logits(asks).double() + self.scorer.log_rate), asks)


def _by_ask(values: Tensor, asks: Sequence[Ask]) -> list[npt.NDArray[Any]]:
    return [part.numpy() for part in torch.split_with_sizes(values, [len(ask.rows) for ask in asks])]


def _best(ask: Ask, scores: Floats) -> Best:
    places = np.flatnonzero(scores >= _kth(scores, ask.k))
    return Best(places, scores[places])


def _kth(values: npt.NDArray[Any], k: int) -> float:
    """The k-th highest; minus infinity where there are not so many."""
    return float(np.partition(values, len(values) - k)[len(values) - k]) if 0 < k <= len(values) else -inf
