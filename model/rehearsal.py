"""The gate's dry run: a bundle loaded from disk and put through its golden requests, with live beside it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch

from model.agreement import BEST, Asked, Floats, logit_error
from model.bundle import Bundle, BundleError, Golden, load, verify
from model.fast_scorer import Ask, FastScorer, Precision
from model.pauses import Pause, paused, unpaused
from model.query import Query
from model.report import Check, Limits
from model.schema import FeatureSchema
from model.scorer import Scorer

TIMED_REQUESTS, TIMED_ROWS = 16, 200
ROUNDS = 9
FEW = 5
"""So few of a golden request's apps that exact does not score all of them twice to find them."""


@dataclass(frozen=True)
class Meters:
    """What a dry run measures with. clock: seconds, monotonic; peak_mib: the most memory the process has held."""

    clock: Callable[[], float]
    peak_mib: Callable[[], float]


@dataclass(frozen=True)
class Act:
    """A scorer and the golden requests it is put through."""

    scorer: Scorer
    golden: tuple[Golden, ...]

    def calls(self, count: int, *, rows: int, precision: Precision) -> list[Callable[[], object]]:
        """Each of the first `count` requests ranking the first `rows` apps of all of them, as when it is served."""
        table = self.scorer.table([app for one in self.golden for app in one.apps][:rows])
        queries, places = [one.query for one in self.golden[:count]], np.arange(rows)
        error = logit_error(self.scorer, [Asked(query, table, places) for query in queries])
        fast = FastScorer(self.scorer, precision=precision, error=error)

        def rank(query: Query) -> None:
            fast.best([Ask(fast.encode(query), table, torch.from_numpy(places), BEST)])

        return [partial(rank, query) for query in queries]


def rehearse(folder: Path, live: Path | None, *, limits: Limits, meters: Meters) -> list[Check]:
    """Every check of the dry run; where the bundle is not whole that is the only one.

    A bundle that is whole and cannot be scored raises whatever it raises: that is for the process around this one.
    """
    held_mib = meters.peak_mib()
    try:
        verify(folder)
        started = meters.clock()
        bundle = load(folder)
    except BundleError as error:
        return [Check.failed("integrity", str(error), limit="every byte as sealed")]
    scorer = Scorer.of(bundle)
    took_s, added_mib = meters.clock() - started, meters.peak_mib() - held_mib
    return [
        Check("integrity", "passed", f"{len(bundle.manifest.files)} files", "every byte as sealed", ""),
        finite_weights(bundle),
        Check.at_most("load_time", took_s, limit=limits.load_s, detail="seconds"),
        Check.at_most("memory", added_mib, limit=limits.memory_mib, detail="MiB added to the process's peak"),
        *golden_checks(scorer, bundle.golden, limits=limits),
        *_beside_live(Act(scorer, bundle.golden), live, limits=limits, clock=meters.clock),
    ]


def finite_weights(bundle: Bundle) -> Check:
    """How many weights are NaN or infinite."""
    odd = {name: tensor for name, tensor in bundle.weights.items() if not tensor.sum(dtype=torch.float64).isfinite()}
    wrong = {name: int((~tensor.isfinite()).sum()) for name, tensor in odd.items()}
    named = ", ".join(name for name, count in wrong.items() if count)
    return Check.at_most("finite_weights", sum(wrong.values()), limit=0, detail=f"not finite in: {named or 'none'}")


def golden_checks(scorer: Scorer, golden: Sequence[Golden], *, limits: Limits, pause: Pause = unpaused) -> list[Check]:
    """Golden requests scored again: finite, as they were saved, telling one app from another, and found by exact.

    pause: after every few milliseconds of work.
    """
    if not golden:
        return [Check.failed("golden_scores", "0 golden requests", limit="1 or more")]
    asked = [_asked_again(scorer, one) for one in paused(golden, pause)]
    scored = [scorer.score(one.query, one.table, one.rows) for one in paused(asked, pause)]
    scores, saved = np.concatenate(scored), np.concatenate([one.scores for one in golden])
    apart = float(np.abs(scores - saved).max(initial=0.0))
    spread = max((float(np.ptp(one)) / max(float(one.max()), math.ulp(0)) for one in scored if one.size), default=0.0)
    of_all = f"{len(golden)} requests, {scores.size} scores"
    return [
        Check.at_most("golden_finite", int((~np.isfinite(scores)).sum()), limit=0, detail=of_all),
        Check.at_most("golden_scores", apart, limit=limits.golden_tolerance, detail="largest difference to the saved"),
        Check.at_least("golden_spread", spread, limit=limits.golden_spread, detail="widest in a request, of its best"),
        _exact_check(scorer, list(zip(golden, asked, strict=True)), limits=limits, pause=pause)
        if np.isfinite(scores).all()
        else Check.skipped("golden_exact", "the reference's own scores are not finite"),
    ]


def _exact_check(scorer: Scorer, golden: Sequence[tuple[Golden, Asked]], *, limits: Limits, pause: Pause) -> Check:
    """The FEW best scores of each golden request as the precision `exact` finds them: those that were saved."""
    error = logit_error(scorer, paused((asked for _, asked in golden), pause))
    exact = FastScorer(scorer, precision=Precision.EXACT, error=error)
    apart = 0.0
    for saved, asked in paused(golden, pause):
        [best] = exact.best([Ask(exact.encode(asked.query), asked.table, torch.from_numpy(asked.rows), FEW)])
        apart = max(apart, _apart(np.asarray(best.scores), saved.scores))
    detail = f"largest difference of the {FEW} best of precision exact to the saved"
    return Check.at_most("golden_exact", apart, limit=limits.golden_tolerance, detail=detail)


def _asked_again(scorer: Scorer, golden: Golden) -> Asked:
    """A golden request over a table of its own apps."""
    return Asked(golden.query, scorer.table(golden.apps), np.arange(len(golden.apps)))


def _apart(found: Floats, saved: Sequence[float]) -> float:
    """How far the FEW of either lie apart, infinitely where they are not as many."""
    mine, theirs = (np.sort(np.asarray(scores, dtype=np.float64))[-FEW:] for scores in (found, saved))
    return float(np.abs(mine - theirs).max(initial=0.0)) if mine.size == theirs.size else math.inf


def request_contract(challenger: FeatureSchema, live: FeatureSchema) -> Check:
    """Whether every request that live's clients send would be accepted."""
    if reasons := challenger.incompatibilities(live):
        return Check.failed("request_contract", "; ".join(reasons), limit="what live's clients send")
    return Check("request_contract", "passed", "compatible", "what live's clients send", "")


def latency_check(mine: Act, live: Act, *, limits: Limits, clock: Callable[[], float]) -> Check:
    """The time of a request over live's, both with as many candidates, in turns."""
    requests = min(TIMED_REQUESTS, len(mine.golden), len(live.golden))
    rows = min(TIMED_ROWS, *(sum(len(one.apps) for one in act.golden) for act in (mine, live)))
    if not requests or not rows:
        return Check.skipped("latency", "live has no golden requests to be timed on")
    # Whether fast serves where nobody asked for it is known when the other half has judged; exact takes longer.
    precision = Precision.FAST if limits.precision == "fast" else Precision.EXACT
    calls = [act.calls(requests, rows=rows, precision=precision) for act in (mine, live)]
    mine_s, live_s = best_times(*calls, clock=clock)
    times = f"{1000 * mine_s / requests:.2f} ms against {1000 * live_s / requests:.2f} ms"
    detail = f"{times} a request of {rows} apps, both {precision}, best of {ROUNDS} rounds in turns"
    return Check.at_most("latency", mine_s / max(live_s, math.ulp(0)), limit=limits.latency_ratio, detail=detail)


def best_times(
    mine: Sequence[Callable[[], object]], live: Sequence[Callable[[], object]], *, clock: Callable[[], float]
) -> tuple[float, float]:
    """The sum over the calls of each one's shortest time: what a busy machine adds, it adds to some rounds only."""
    best = np.full((2, len(mine)), math.inf)
    for turn in range(ROUNDS):
        for place, pair in enumerate(zip(mine, live, strict=True)):
            for side in (0, 1) if turn % 2 else (1, 0):
                started = clock()
                pair[side]()
                best[side, place] = min(best[side, place], clock() - started)
    return float(best[0].sum()), float(best[1].sum())


def _beside_live(mine: Act, live: Path | None, *, limits: Limits, clock: Callable[[], float]) -> list[Check]:
    names = ("request_contract", "latency")
    if live is None:
        return [Check.skipped(name, "no version is live") for name in names]
    try:
        bundle = load(live)
    except BundleError as error:
        return [Check.skipped(name, f"live cannot be read: {error}") for name in names]
    contract = request_contract(mine.scorer.schema, bundle.schema)
    # Live may not be able to read the challenger's values, so under another schema each keeps to its own requests.
    same = bundle.schema.fingerprint() == mine.scorer.schema.fingerprint()
    theirs = Act(Scorer.of(bundle), mine.golden if same else bundle.golden)
    return [contract, latency_check(mine, theirs, limits=limits, clock=clock)]
