"""The gate's dry run: a bundle loaded from disk and put through its golden requests, with live beside it."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from model.bundle import Bundle, BundleError, Golden, load, verify
from model.report import Check, Limits
from model.schema import FeatureSchema
from model.scorer import Scorer

TIMED_REQUESTS, TIMED_ROWS = 16, 200
ROUNDS = 9


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
    wrong = {name: int((~tensor.isfinite()).sum()) for name, tensor in bundle.weights.items()}
    named = ", ".join(name for name, count in wrong.items() if count)
    return Check.at_most("finite_weights", sum(wrong.values()), limit=0, detail=f"not finite in: {named or 'none'}")


def golden_checks(scorer: Scorer, golden: Sequence[Golden], *, limits: Limits) -> list[Check]:
    """Golden requests scored again: finite, as they were saved, and telling one app from another."""
    if not golden:
        return [Check.failed("golden_scores", "0 golden requests", limit="1 or more")]
    scored = [scorer.score(one.query, scorer.table(one.apps), np.arange(len(one.apps))) for one in golden]
    scores, saved = np.concatenate(scored), np.concatenate([one.scores for one in golden])
    apart = float(np.abs(scores - saved).max(initial=0.0))
    spread = max((float(np.ptp(one)) / max(float(one.max()), math.ulp(0)) for one in scored if one.size), default=0.0)
    of_all = f"{len(golden)} requests, {scores.size} scores"
    return [
        Check.at_most("golden_finite", int((~np.isfinite(scores)).sum()), limit=0, detail=of_all),
        Check.at_most("golden_scores", apart, limit=limits.golden_tolerance, detail="largest difference to the saved"),
        Check.at_least("golden_spread", spread, limit=limits.golden_spread, detail="widest in a request, of its best"),
    ]


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
    mine_s, live_s = best_times(_calls(mine, requests, rows), _calls(live, requests, rows), clock=clock)
    times = f"{1000 * mine_s / requests:.2f} ms against {1000 * live_s / requests:.2f} ms"
    detail = f"{times} a request of {rows} apps, best of {ROUNDS} rounds in turns"
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


def _calls(act: Act, requests: int, rows: int) -> list[Callable[[], object]]:
    """Each of the first golden requests ranking the first apps of all of them."""
    table = act.scorer.table([app for one in act.golden for app in one.apps][:rows])
    places = np.arange(rows)
    return [partial(act.scorer.score, one.query, table, places) for one in act.golden[:requests]]


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
