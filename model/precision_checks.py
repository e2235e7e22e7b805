"""The gate's checks of what serves in place of the fp32 reference: fast near enough to it, and exact the same as it."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from model.agreement import BEST, Agreement, Asked, logit_error, measure
from model.fast_scorer import FastScorer, Precision
from model.quick import best_dtype
from model.report import Check, Limits
from model.scorer import Scorer

ORDER, EXACT = "order_agreement", "exact_agreement"
ERROR_QUERIES = 8
"""How many requests' logits tell exact how far fast may be off: as few as a table's builder has."""


def precision_checks(scorer: Scorer, asked: Sequence[Asked], *, limits: Limits) -> list[Check]:
    """Both checks, on requests that all rank one shelf of a table; skipped where it is empty."""
    if not asked or not len(asked[0].rows):
        return [Check.skipped(name, "no app is available") for name in (ORDER, EXACT)]
    shelf = asked[0]
    error = logit_error(scorer, [replace(one, table=shelf.table, rows=shelf.rows) for one in asked[:ERROR_QUERIES]])
    exact = FastScorer(scorer, precision=Precision.EXACT, error=error)
    return [_order_check(scorer, asked, limits=limits), exact_check(measure(scorer, exact, asked), limits)]


def _order_check(scorer: Scorer, asked: Sequence[Asked], *, limits: Limits) -> Check:
    if best_dtype() is not torch.bfloat16:
        told = "this processor has no bf16, so fast is fp32 here and says nothing of fast elsewhere"
        return Check.skipped(ORDER, f"{told}; {serves(limits)}")
    fast = FastScorer(scorer, precision=Precision.FAST, error=np.inf)
    return order_check(measure(scorer, fast, asked), limits)


def order_check(found: Agreement, limits: Limits) -> Check:
    """Whether fast keeps enough of the reference's ten; where it need not serve, too little refuses nobody."""
    told = (
        f"mean share of the reference's {BEST} that fast keeps in {found.requests} requests; {found.order:.0%} of them "
        f"in the same order, scores within {found.score_error:.2g}, logits within {found.logit_error:.2g}"
    )
    check = Check.at_least(ORDER, found.overlap, limit=limits.order_agreement, detail=told)
    if check.outcome == "passed" or limits.precision == "fast":
        return check
    return replace(check, outcome="skipped", detail=f"{told}; exact serves")


def exact_check(found: Agreement, limits: Limits) -> Check:
    """Whether exact's answers are the reference's own; where they are not, the code or the processor is wrong."""
    same = round(found.order * found.requests)
    right = same == found.requests and found.score_error <= limits.golden_tolerance
    observed = f"{same} of {found.requests} requests, scores within {found.score_error:.2g}"
    limit = f"every request, scores within {limits.golden_tolerance:g}"
    detail = f"requests whose {BEST} are the fp32 reference's, in its order"
    return Check(EXACT, "passed" if right else "failed", observed, limit, detail)


def serves(limits: Limits) -> str:
    """What serves where fast could not be judged, in words."""
    return "fast serves unproven, as it is set" if limits.precision == "fast" else "exact serves"
