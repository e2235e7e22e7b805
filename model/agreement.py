"""How far a fast scorer's answers are from those of the fp32 reference: the same apps, in the same order, as sure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import inf

import numpy as np
import numpy.typing as npt
import torch

from model.app_table import AppTable
from model.fast_scorer import Ask, Best, FastScorer, Precision
from model.query import Query
from model.scorer import Scorer

Floats = npt.NDArray[np.float64]
Ids = npt.NDArray[np.int64]

BEST = 10
TOGETHER = 8
TIE = 1e-5
"""Logits this near are the same but for rounding: which of two such apps comes first says nothing of a precision."""


@dataclass(frozen=True)
class Asked:
    """One request that both answer: the apps at `rows` (N,) of a table, for a query."""

    query: Query
    table: AppTable
    rows: Ids


@dataclass(frozen=True)
class Agreement:
    """A fast scorer's BEST apps beside the reference's, over `requests` requests.

    overlap: mean share of the reference's that are among them; order: share of the requests that list the same apps in
    the same order; score_error: largest difference of a listed app's probability; logit_error: largest difference of
    any candidate's logit in the first pass. NaN, and infinite errors, where there was no request to answer.
    """

    overlap: float
    order: float
    score_error: float
    logit_error: float
    requests: int


@dataclass(frozen=True)
class _Compared:
    """One request's share of an agreement."""

    overlap: float
    ordered: bool
    score_error: float
    logit_error: float


def measure(scorer: Scorer, fast: FastScorer, asked: Sequence[Asked]) -> Agreement:
    """Answer every request with both, the fast one TOGETHER at a time as requests come in when it serves."""
    turns = (asked[start : start + TOGETHER] for start in range(0, len(asked), TOGETHER))
    found = [one for turn in turns for one in _compared(scorer, fast, turn)]
    if not found:
        return Agreement(np.nan, np.nan, inf, inf, 0)
    return Agreement(
        overlap=float(np.mean([one.overlap for one in found])),
        order=float(np.mean([one.ordered for one in found])),
        score_error=max(one.score_error for one in found),
        logit_error=max(one.logit_error for one in found),
        requests=len(found),
    )


def logit_error(scorer: Scorer, asked: Iterable[Asked]) -> float:
    """The largest difference of a fast logit to the reference's, over every app of every request.

    Infinite where there is nothing to measure, so that whoever rescores what lies within it rescores everything.
    """
    fast = FastScorer(scorer, precision=Precision.FAST, error=inf)
    return max((_logit_error(scorer, fast, one) for one in asked if len(one.rows)), default=inf)


def _logit_error(scorer: Scorer, fast: FastScorer, asked: Asked) -> float:
    reference = scorer.score(asked.query, asked.table, asked.rows)
    return _largest(_logits(np.asarray(fast.scores(_ask(fast, asked)))) - _logits(reference))


def _compared(scorer: Scorer, fast: FastScorer, asked: Sequence[Asked]) -> Iterator[_Compared]:
    asks = [_ask(fast, one) for one in asked]
    for one, ask, best in zip(asked, asks, fast.best(asks), strict=True):
        reference = scorer.score(one.query, one.table, one.rows)
        first_pass = _largest(_logits(np.asarray(fast.scores(ask))) - _logits(reference))
        yield _beside(reference, best, [one.table.ids[row] for row in one.rows.tolist()], first_pass)


def _beside(reference: Floats, best: Best, ids: Sequence[str], first_pass: float) -> _Compared:
    """Both answers to one request; reference: (N,) probabilities of the apps `ids`."""
    every = np.arange(len(ids))
    theirs = _listed(every, reference, ids)
    places, scores = np.asarray(best.places), np.asarray(best.scores)
    mine = _listed(places, scores, ids)
    score_of = dict(zip(places.tolist(), scores.tolist(), strict=True))
    logits = _logits(reference)
    kept = logits[mine] >= logits[theirs].min(initial=inf) - TIE
    same = len(mine) == len(theirs) and bool(np.all(np.abs(logits[mine] - logits[theirs]) <= TIE))
    return _Compared(
        overlap=float(kept.sum()) / max(len(theirs), 1),
        ordered=same,
        score_error=_largest(np.array([score_of[place] for place in mine.tolist()]) - reference[mine]),
        logit_error=first_pass,
    )


def _listed(places: Ids, scores: Floats, ids: Sequence[str]) -> Ids:
    """The places of the BEST, best first, ties by app id, as an answer lists them."""
    ranked = sorted(zip((-scores).tolist(), (ids[place] for place in places.tolist()), places.tolist(), strict=True))
    return np.array([place for _, _, place in ranked[:BEST]], dtype=np.int64)


def _ask(fast: FastScorer, asked: Asked) -> Ask:
    return Ask(fast.encode(asked.query), asked.table, torch.from_numpy(asked.rows), BEST)


def _logits(scores: Floats) -> Floats:
    """(N,) the logits of probabilities; those that double precision cannot tell from 0 or 1 are all alike."""
    inside = np.clip(scores, np.finfo(np.float64).tiny, 1 - np.finfo(np.float64).epsneg)
    return np.log(inside) - np.log1p(-inside)


def _largest(differences: Floats) -> float:
    """The largest of them in size, infinite where one is no number."""
    size = np.abs(differences)
    return float(np.where(np.isfinite(size), size, inf).max(initial=0.0))
