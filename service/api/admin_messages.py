"""The wire of the admin calls."""

from typing import Annotated, Literal

from pydantic import StringConstraints

from model.fast_scorer import Precision
from model.query import MAX_TEXT_LENGTH
from model.report import GateReport
from service.api.messages import VERSION_PATTERN, Message
from service.rollout import RolloutResult
from service.store.ports import VersionEntry

Version = Annotated[str, StringConstraints(pattern=VERSION_PATTERN)]
Reason = Annotated[str, StringConstraints(max_length=MAX_TEXT_LENGTH)]


class ReloadRequest(Message):
    """`POST /admin/reload`: promote this version, or the newest that passed; force needs a reason."""

    version: Version | None = None
    force: bool = False
    reason: Reason = ""


class RollbackRequest(Message):
    """`POST /admin/rollback`."""

    reason: Reason = ""


class RolloutAnswer(Message):
    """What each serving process serves after a rollout; complete when all of them serve the version."""

    version: str
    complete: bool
    processes: dict[str, str | None]

    @classmethod
    def of(cls, result: RolloutResult) -> "RolloutAnswer":
        """The wire's form of a rollout."""
        return cls(version=result.version, complete=result.complete, processes=dict(result.processes))


class CheckMessage(Message):
    """One line of a report: what was observed beside what is allowed."""

    name: str
    outcome: Literal["passed", "failed", "skipped"]
    observed: float | str | None
    limit: float | str | None
    detail: str


class ReportMessage(Message):
    """The gate's verdict on a version; `against` is the live version of the time, or popularity."""

    version: str
    against: str
    at: str
    passed: bool
    checks: list[CheckMessage]

    @classmethod
    def of(cls, report: GateReport) -> "ReportMessage":
        """The wire's form of a report."""
        checks = [
            CheckMessage(name=one.name, outcome=one.outcome, observed=one.observed, limit=one.limit, detail=one.detail)
            for one in report.checks
        ]
        return cls(version=report.version, against=report.against, at=report.at, passed=report.passed, checks=checks)


class VersionMessage(Message):
    """One version of the registry.

    `precision` is what it serves in, or would, by the setting and its report; `report` is its newest gate report, in
    the answer for one version alone.
    """

    version: str
    state: str
    created_at: str
    architecture: str
    recipe: str
    parent: str | None
    precision: Literal["exact", "fast"]
    metrics: dict[str, float]
    report: ReportMessage | None = None

    @classmethod
    def of(cls, entry: VersionEntry, *, precision: Precision, with_report: bool = False) -> "VersionMessage":
        """The wire's form of a version."""
        told = entry.report if with_report else None
        return cls(
            version=entry.version,
            state=entry.state,
            created_at=entry.created_at,
            architecture=entry.architecture,
            recipe=entry.recipe,
            parent=entry.parent,
            precision=precision.value,
            metrics=dict(entry.metrics),
            report=ReportMessage.of(GateReport.from_json(told)) if told else None,
        )


class VersionsMessage(Message):
    """`GET /admin/versions`, oldest first."""

    versions: list[VersionMessage]
