"""From a bundle on disk to a version ready to serve: loaded, dry-run and warm."""

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol

from model.bundle import Bundle, Golden, load
from model.rehearsal import finite_weights, golden_checks
from model.report import Check, Limits
from model.scorer import Scorer
from service.catalogue import Shelf
from service.engine import Live
from service.errors import ServiceError
from service.store.ports import AppChanges

ABOUT_QUALITY = {"golden_spread"}  # the gate's to judge, and a forced promote's to overrule
WARM_REQUESTS, WARM_APPS = 8, 1000


class Catalogue(Protocol):
    """Where a shelf is stocked from: a store, or a copy of it."""

    def apps_since(self, sequence: int) -> AppChanges:
        """What was put or deleted after `sequence`; 0 gives the whole catalogue. Raises StoreUnavailable."""


class DryRunFailed(ServiceError):
    """A loaded version does not score as it did when it was saved; no force overrules that."""

    def __init__(self, version: str, failures: Iterable[Check]) -> None:
        told = "; ".join(f"{one.name} {one.observed}, limit {one.limit}: {one.detail}" for one in failures)
        super().__init__(f"version {version!r} failed its dry run ({told}); train another on the release that serves")


def prepare(folder: Path, catalogue: Catalogue) -> Live:
    """Load the bundle, dry-run it, put the catalogue on its shelf, and score once for real.

    Raises BundleError, DryRunFailed, StoreUnavailable.
    """
    bundle = load(folder)
    scorer = Scorer.of(bundle)
    dry_run(scorer, bundle)
    changes = catalogue.apps_since(0)
    shelf = Shelf(scorer.table((), capacity=len(changes.put)), scorer.schema)
    shelf.refresh(changes)
    live = Live(bundle.manifest.version, scorer, shelf, bundle.statistics.get("popularity", {}))
    warm_up(live, bundle.golden)
    return live


def dry_run(scorer: Scorer, bundle: Bundle) -> None:
    """Raise DryRunFailed unless every weight is finite and each golden request scores as it was saved."""
    checks = [finite_weights(bundle), *golden_checks(scorer, bundle.golden, limits=Limits())]
    failures = [one for one in checks if one.outcome == "failed" and one.name not in ABOUT_QUALITY]
    if failures:
        raise DryRunFailed(scorer.version, failures)


def warm_up(live: Live, golden: tuple[Golden, ...]) -> None:
    """Rank some of the catalogue for some golden users, so that the first real request finds all of it in memory."""
    selection = live.shelf.select(None, country=None)
    rows = selection.rows[:WARM_APPS]
    if len(rows):
        for one in golden[:WARM_REQUESTS]:
            live.scorer.score(one.query, selection.table, rows)
