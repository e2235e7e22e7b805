"""Which bundles are kept: the newest ones, and whatever serves, may be gone back to, or is on its way."""

from contextlib import suppress

from service.errors import NothingToPromote, NothingToRollBack
from service.registry import Registry
from service.rollout import Coordinator


def collect(registry: Registry, coordinator: Coordinator, *, keep: int) -> list[str]:
    """Remove the bundles of all but the `keep` newest versions, and name them.

    Never those of live, its parent, the version that a rollback takes, the one that a promote takes, and what any
    process serves or prepares. The registry keeps every entry with its report.
    """
    versions = [entry.version for entry in registry.versions()]
    kept = {*versions[-keep:], *needed(registry), *coordinator.in_use()}
    old = sorted(registry.stored() - kept)
    for version in old:
        registry.discard(version)
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
