"""From a bundle on disk to a version ready to serve: loaded, dry-run and warm.

A serving process does this beside its requests, so each step is a small one and a pause follows it.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from model.bundle import Bundle, Golden, load
from model.fast_scorer import Ask, FastScorer, Precision
from model.pauses import Pause, paused
from model.query import Query, ValueRefused
from model.rehearsal import finite_weights, golden_checks
from model.report import Check, Limits
from model.scorer import Scorer
from service.engine import Live
from service.errors import ServiceError
from service.stocking import Stocked

ABOUT_QUALITY = {"golden_spread"}  # the gate's to judge, and a forced promote's to overrule
WARM_REQUESTS, WARM_APPS, WARM_K = 8, 200, 10


class DryRunFailed(ServiceError):
    """A loaded version does not score as it did when it was saved; no force overrules that."""

    def __init__(self, version: str, failures: Iterable[Check]) -> None:
        told = "; ".join(f"{one.name} {one.observed}, limit {one.limit}: {one.detail}" for one in failures)
        super().__init__(f"version {version!r} failed its dry run ({told}); train another on the release that serves")


@dataclass(frozen=True)
class Preparation:
    """What versions are made ready with.

    stock: fills a version's shelf; precision: what a version serves in; users: whose rows each keeps; recent: what was
    asked lately; pause: between two steps.
    """

    stock: Callable[[Scorer, Sequence[Golden]], Stocked]
    precision: Callable[[str], Precision]
    users: int
    recent: Callable[[], Sequence[Query]]
    pause: Pause

    def __call__(self, folder: Path) -> Live:
        """Load the bundle, dry-run it, put the catalogue on its shelf, and answer a few requests for nobody.

        Raises BundleError, DryRunFailed, StoreUnavailable, and TableUnbuilt where this process is to end.
        """
        bundle = load(folder, pause=self.pause)
        self.pause()
        scorer = Scorer.of(bundle)
        self.pause()
        dry_run(scorer, bundle, pause=self.pause)
        stocked = self.stock(scorer, bundle.golden)
        precision = self.precision(scorer.version)
        fast = FastScorer(scorer, precision=precision, error=stocked.error, users=self.users)
        live = Live(scorer.version, scorer, stocked.shelf, fast, precision, bundle.statistics.get("popularity", {}))
        recent = self.recent()
        # Where nobody asked yet, as at a start, an answer soon is worth more than all pages.
        stocked.shelf.base.edition.table.touch(self.pause, exact=precision is Precision.EXACT and bool(recent))
        warm_up(live, bundle.golden, pause=self.pause)
        meet(live, recent, pause=self.pause)
        return live


def dry_run(scorer: Scorer, bundle: Bundle, *, pause: Pause) -> None:
    """Raise DryRunFailed unless every weight is finite and each golden request scores as it was saved."""
    _refuse_failed(scorer, [finite_weights(bundle)])
    pause()
    _refuse_failed(scorer, golden_checks(scorer, bundle.golden, limits=Limits(), pause=pause))


def warm_up(live: Live, golden: Sequence[Golden], *, pause: Pause) -> None:
    """Rank some of the catalogue for some golden users, so that the first real request finds all of it in memory."""
    selection = live.shelf.select(None, country=None)
    rows = torch.from_numpy(selection.rows[:WARM_APPS])
    asks = [Ask(live.fast.encode(one.query), selection.table, rows, WARM_K) for one in golden[:WARM_REQUESTS]]
    for together in ([[ask] for ask in asks] + [asks]) if len(rows) else ():
        if together:
            live.fast.best(together)
        pause()


def meet(live: Live, recent: Iterable[Query], *, pause: Pause) -> None:
    """Keep the rows of those who asked lately, who else would all be new to the version in its first second."""
    for query in paused(recent, pause):
        with suppress(ValueRefused):  # its schema may have another kind for a field
            live.fast.encode(query)


def _refuse_failed(scorer: Scorer, checks: Iterable[Check]) -> None:
    failures = [one for one in checks if one.outcome == "failed" and one.name not in ABOUT_QUALITY]
    if failures:
        raise DryRunFailed(scorer.version, failures)
