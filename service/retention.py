"""Which bundles are kept: the newest ones, and whatever serves, may be gone back to, or is on its way."""

import logging
from contextlib import suppress

from service.errors import BundlesUnavailable, NothingToPromote, NothingToRollBack
from service.registry import Registry
from service.rollout import Coordinator

log = logging.getLogger(__name__)


def collect(registry: Registry, coordinator: Coordinator, *, keep: int) -> list[str]:
    """Remove the bundles of all but the `keep` newest versions, and name them.

    Never those of live, its parent, the version that a rollback takes, the one that a promote takes, and what any
    process serves or prepares. The registry keeps every entry with its report. What cannot be reached now is left.
    """
    old: list[str] = []
    try:
        versions = [entry.version for entry in registry.versions()]
        kept = {*versions[-keep:], *needed(registry), *coordinator.in_use()}
        for version in sorted(registry.stored() - kept):
            registry.discard(version)
            old.append(version)
    except BundlesUnavailable as error:
        log.warning("old bundles stay until the next time: %s", error)
    return old


def needed(registry: Registry) -> set[str]:
    """Live, its parent, the version before it and the newest that passed since, as far as there are any."""
    live = registry.live()
    found = {live, registry.get(live).parent} if live else set()
    with suppress(NothingToRollBack):
        found.add(registry.previous_live())
    with suppress(NothingToPromote):
        found.add(registry.newest_passed())
    return {version for version in found if version}
