"""The registry: every version, its state, which one is live, and the folder of its bundle."""

import logging
from contextlib import suppress
from pathlib import Path

from model.manifest import VERSION, BundleError, Manifest
from model.report import GateReport
from service.bundles import BundleStore
from service.errors import NothingToPromote, NothingToRollBack, UnknownVersion, VersionExists
from service.states import TRANSITIONS, State, check_transition
from service.store.ports import HistoryEntry, Note, RegistryIndex, VersionEntry

__all__ = ["TRANSITIONS", "Registry", "State", "verdict_of"]

log = logging.getLogger(__name__)


class Registry:
    """What is known of the versions in an index, beside the store of their bundles."""

    def __init__(self, index: RegistryIndex, bundles: BundleStore) -> None:
        self._index = index
        self._bundles = bundles

    def register(self, manifest: Manifest, *, note: Note) -> VersionEntry:
        """Publish a saved bundle and enter it as a challenger. Raises VersionExists, BundleError, BundlesUnavailable.

        In this order, so that no process hears of a version that it cannot fetch; killed between, `rebuild` enters it.
        """
        self._bundles.publish(manifest.version)
        entry = VersionEntry(
            version=manifest.version,
            state=State.CHALLENGER,
            created_at=manifest.created_at,
            architecture=manifest.architecture,
            recipe=manifest.recipe,
            parent=manifest.parent,
            metrics=manifest.metrics,
        )
        self._index.add(entry, note=note)
        return entry

    def rebuild(self, *, note: Note) -> tuple[str, ...]:
        """Publish what was sealed here and was not, enter every bundle that the index does not know, and name them.

        A manifest does not tell what became of its version, so each is a challenger, to be judged before it serves.
        Raises BundlesUnavailable.
        """
        for version in self._bundles.unpublished():
            try:
                self._bundles.publish(version)
            except BundleError as error:
                log.warning("a bundle that was sealed here cannot be published: %s", error)
        known, entered = {entry.version for entry in self._index.all()}, []
        for manifest in self._bundles.manifests(but=known):
            with suppress(VersionExists):  # a command beside this one was first
                entered.append(self.register(manifest, note=note).version)
        return tuple(entered)

    def versions(self) -> tuple[VersionEntry, ...]:
        """Every version, oldest first."""
        return self._index.all()

    def get(self, version: str) -> VersionEntry:
        """One version. Raises UnknownVersion, also for what is no version, which no store is then asked about."""
        entry = self._index.get(version) if VERSION.fullmatch(version) else None
        if entry is None:
            raise UnknownVersion(version)
        return entry

    def folder(self, version: str) -> Path:
        """The folder of a registered version's bundle. Raises UnknownVersion, so no text leads out of the home.

        Raises BundleError and BundlesUnavailable where it is on no disk of this machine and cannot be brought here.
        """
        return self._bundles.fetch(self.get(version).version)

    def check_bundle(self, version: str) -> None:
        """Raise UnknownVersion, or BundleError unless the version's bundle is there to the last byte."""
        self._bundles.check(self.get(version).version)

    def stored(self) -> set[str]:
        """The registered versions that anything is stored of."""
        return {entry.version for entry in self.versions()} & set(self._bundles.names())

    def discard(self, version: str) -> None:
        """Remove a version's bundle everywhere; its entry and report stay. Raises UnknownVersion."""
        self._bundles.discard(self.get(version).version)

    def live(self) -> str | None:
        """The version that every process is to serve, None before the first."""
        return self._index.live()

    def history(self) -> tuple[HistoryEntry, ...]:
        """Every move of every version, oldest first."""
        return self._index.history()

    def newest_passed(self) -> str:
        """The newest version that passed, is newer than live and has its bundle still. Raises NothingToPromote."""
        live = self.live()
        passed = [entry.version for entry in self.versions() if entry.state is State.PASSED]
        newer = (version for version in reversed(passed) if live is None or version > live)
        if (newest := next(filter(self._bundles.holds, newer), None)) is None:
            raise NothingToPromote(live)
        return newest

    def previous_live(self) -> str:
        """The version that the live one replaced; two rollbacks end where they began. Raises NothingToRollBack."""
        retired = [entry.version for entry in self.history() if (entry.was, entry.to) == (State.LIVE, State.RETIRED)]
        if not retired:
            raise NothingToRollBack(self.live())
        return retired[-1]

    def verdict(self, version: str) -> GateReport | None:
        """The newest report on a version, None where there is none.

        None too for a version that is to be judged: a report beside that state is of before, and whoever was about to
        replace it was killed.
        """
        return verdict_of(self.get(version))

    def record(self, report: GateReport, *, note: Note) -> State:
        """Keep a gate's report and move its version to passed or rejected; one judged before is a challenger again.

        A retired version stays retired: a rollback must find it, whatever is thought of it now. Raises
        UnknownVersion, and IllegalTransition for a version that is live.
        """
        state, verdict = self.get(report.version).state, State.PASSED if report.passed else State.REJECTED
        if state is State.RETIRED:
            verdict = State.RETIRED
        elif state is not State.CHALLENGER:
            self._index.move(report.version, State.CHALLENGER, note=note)
        self._index.move(report.version, verdict, note=note, report=report.to_json())
        return verdict

    def check_judgeable(self, version: str) -> None:
        """Raise UnknownVersion, or IllegalTransition for a version that is live, before any work is spent on it."""
        if (state := self.get(version).state) not in (State.CHALLENGER, State.RETIRED):
            check_transition(version, state, State.CHALLENGER, force=False)

    def fail(self, version: str, *, note: Note) -> None:
        """Say that a version's training or judgement broke off."""
        self._index.move(version, State.FAILED, note=note)

    def check_promotable(self, version: str, *, note: Note) -> None:
        """Raise UnknownVersion or IllegalTransition where the version may not go live."""
        check_transition(version, self.get(version).state, State.LIVE, force=note.force)

    def go_live(self, version: str, *, note: Note) -> None:
        """Move the live pointer. Only a rollout calls this, when every process is prepared."""
        self._index.move(version, State.LIVE, note=note)


def verdict_of(entry: VersionEntry) -> GateReport | None:
    """The newest report on a version, None where it has none or is to be judged, see `Registry.verdict`."""
    unjudged = (State.TRAINING, State.CHALLENGER, State.FAILED)
    return GateReport.from_json(entry.report) if entry.report and entry.state not in unjudged else None
