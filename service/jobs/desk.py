"""What a recipe works with in its child process, and the steps that recipes share. Each finds what stands already."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from model.bundle import read_manifest
from model.gate import POPULARITY, GateReport
from model.manifest import new_version
from model.training import Progress
from service.container import Container
from service.errors import GateRefused, RolloutUnderWay
from service.jobs.diary import Diary
from service.jobs.queue import token_of
from service.lifecycle import gate_version, promote_version
from service.rollout import Time
from service.states import State
from service.store.job_ports import Job
from service.store.ports import Note

CLOCKS_DIFFER_S = 3600.0


class Superseded(Exception):
    """The job is no longer this process's to do: it was cancelled, or its worker lost it to another."""


@dataclass(frozen=True)
class Desk:
    """One attempt's surroundings. check: raises Superseded; live is moved by nobody who has not called it just before.

    folder: what the job works on, kept from one attempt to the next.
    """

    container: Container
    job: Job
    diary: Diary
    time: Time
    check: Callable[[], object]

    @property
    def folder(self) -> Path:
        """The job's own folder."""
        return self.container.home.jobs / self.job.id

    def made_before(self) -> str | None:
        """The version that an earlier attempt at this job has sealed, so that none is made twice."""
        token, since = token_of(self.job.id), new_version(self.job.queued_at - CLOCKS_DIFFER_S, "000000")
        entries = self.container.registry.versions()
        made = [entry.version for entry in entries if entry.version.endswith(f"-{token}") and entry.version >= since]
        if made:
            self.diary.say(f"goes on with {made[-1]}, which an earlier attempt has trained")
        return made[-1] if made else None

    def told(self, step: Progress) -> None:
        """Where training says how far it is."""
        self.diary.progress(asdict(step))

    def judged(self, version: str, data: Path) -> GateReport:
        """The gate's report on a version, on the rows in `data`; what was judged against live already is not again."""
        registry = self.container.registry
        before, live = registry.verdict(version), registry.live()
        if before and (self.went_live(version) or before.against == (live or POPULARITY)):
            return before
        report = gate_version(self.container, version, data=data)
        failed = "; ".join(f"{check.name} {check.observed}, limit {check.limit}" for check in report.failures)
        verdict = "was passed" if report.passed else f"was refused ({failed})"
        self.diary.say(f"{version} {verdict}, judged against {report.against}")
        return report

    def went_live(self, version: str) -> bool:
        """Whether it is live, or was: what an operator has gone back from since is not taken live again."""
        return self.container.registry.get(version).state in (State.LIVE, State.RETIRED)

    def promote(self, version: str, data: Path) -> bool:
        """Take a version live that passed; False where live has moved and the gate refuses it now.

        Waits for another rollout's end. Raises RolloutFailed and Superseded; live then is what it was.
        """
        if self.went_live(version):
            return True
        note = Note(f"job {self.job.id}", f"asked for by {self.job.who}")
        until = self.time.clock() + 2 * self.container.settings.rollout_deadline_s
        while True:
            self.check()
            try:
                promote_version(self.container, version, note=note, data=data)
            except GateRefused as refused:
                self.diary.say(str(refused))
                return False
            except RolloutUnderWay:
                if self.time.clock() >= until:
                    raise
                self.time.wait(1.0)
            else:
                self.diary.say(f"{version} is live")
                return True

    def result(self, version: str, *, promoted: bool) -> dict[str, Any]:
        """What every recipe's result has: JSON values."""
        entry = self.container.registry.get(version)
        report = self.container.registry.verdict(version)
        return {
            "version": version,
            "promoted": promoted,
            "parent": entry.parent,
            "metrics": dict(entry.metrics),
            "training": read_manifest(self.container.registry.folder(version)).facts.get("training", {}),
            "report": report_json(report),
            "seconds": dict(self.diary.seconds),
        }


def report_json(report: GateReport | None) -> Mapping[str, Any] | None:
    """A report as JSON values."""
    return {**asdict(report), "passed": report.passed} if report else None
