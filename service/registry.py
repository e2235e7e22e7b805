"""The registry: every version, its state, which one is live, and the folder of its bundle."""

from pathlib import Path

from model.bundle import list_bundles
from model.manifest import Manifest
from model.report import GateReport
from service.errors import NothingToPromote, NothingToRollBack, UnknownVersion
from service.states import TRANSITIONS, State, check_transition
from service.store.ports import HistoryEntry, Note, RegistryIndex, VersionEntry

__all__ = ["TRANSITIONS", "Registry", "State"]


class Registry:
    """What is known of the versions in an index, beside the folder of their bundles."""

    def __init__(self, index: RegistryIndex, bundles: Path) -> None:
        self._index = index
        self._bundles = bundles

    def register(self, manifest: Manifest, *, note: Note) -> VersionEntry:
        """Enter a saved bundle as a challenger. Raises VersionExists."""
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
        """Enter every bundle that the index does not know, and name them.

        A manifest does not tell what became of its version, so each is a challenger, to be judged before it serves.
        """
        known = {entry.version for entry in self._index.all()}
        missing = [manifest for manifest in list_bundles(self._bundles) if manifest.version not in known]
        return tuple(self.register(manifest, note=note).version for manifest in missing)

    def versions(self) -> tuple[VersionEntry, ...]:
        """Every version, oldest first."""
        return self._index.all()

    def get(self, version: str) -> VersionEntry:
        """One version. Raises UnknownVersion."""
        entry = self._index.get(version)
        if entry is None:
            raise UnknownVersion(version)
        return entry

    def folder(self, version: str) -> Path:
        """The folder of a registered version's bundle. Raises UnknownVersion, so no text leads out of the home."""
        return self._bundles / self.get(version).version

    def live(self) -> str | None:
        """The version that every process is to serve, None before the first."""
        return self._index.live()

    def history(self) -> tuple[HistoryEntry, ...]:
        """Every move of every version, oldest first."""
        return self._index.history()

    def newest_passed(self) -> str:
        """The newest version that passed and is newer than live. Raises NothingToPromote."""
        live = self.live()
        passed = [entry.version for entry in self.versions() if entry.state is State.PASSED]
        if not passed or (live is not None and passed[-1] < live):
            raise NothingToPromote(live)
        return passed[-1]

    def previous_live(self) -> str:
        """The version that the live one replaced; two rollbacks end where they began. Raises NothingToRollBack."""
        retired = [entry.version for entry in self.history() if entry.to is State.RETIRED]
        if not retired:
            raise NothingToRollBack(self.live())
        return retired[-1]

    def live_against(self, version: str) -> str | None:
        """The live version that the newest report judged this one against, None where there was none or no report."""
        report = self.get(version).report
        if report is None:
            return None
        against = GateReport.from_json(report).against
        return against if self._index.get(against) else None

    def record(self, report: GateReport, *, note: Note) -> State:
        """Keep a gate's report and move its version to passed or rejected; one judged before is a challenger again.

        Raises UnknownVersion, and IllegalTransition for a version that is live.
        """
        verdict = State.PASSED if report.passed else State.REJECTED
        if self.get(report.version).state is not State.CHALLENGER:
            self._index.move(report.version, State.CHALLENGER, note=note)
        self._index.move(report.version, verdict, note=note, report=report.to_json())
        return verdict

    def check_judgeable(self, version: str) -> None:
        """Raise UnknownVersion, or IllegalTransition for a version that is live, before any work is spent on it."""
        if (state := self.get(version).state) is not State.CHALLENGER:
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
