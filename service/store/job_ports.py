"""The jobs' port: what was asked for, how far it is, what came of it, and the lease that makes one run at a time.

Every method is atomic and raises StoreUnavailable where its backend is away.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

LINES_KEPT = 1_000
"""The newest log lines of a job that are kept."""


class JobState(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """True where nothing more will happen."""
        return self in (JobState.SUCCEEDED, JobState.FAILED, JobState.CANCELLED)


@dataclass(frozen=True)
class JobLine:
    """One line of a job's log; at: epoch seconds."""

    at: float
    text: str


@dataclass(frozen=True)
class Job:
    """A job's record. Times are epoch seconds; options, progress and result hold JSON values.

    attempt: how often it was begun; cancel_asked: somebody wants it ended, and its worker will see to that.
    """

    id: str
    kind: str
    options: Mapping[str, Any]
    who: str
    queued_at: float
    state: JobState = JobState.QUEUED
    attempt: int = 0
    began_at: float | None = None
    ended_at: float | None = None
    progress: Mapping[str, Any] = field(default_factory=dict)
    result: Mapping[str, Any] | None = None
    cancel_asked: bool = False
    lines: tuple[JobLine, ...] = ()


class JobStore(Protocol):
    """Jobs by id, and leases by name."""

    def add(self, job: Job) -> None:
        """Enter a job; one of that id that is known already stays as it is."""

    def get(self, job_id: str) -> Job | None:
        """The job with its lines, oldest first, None where there is none."""

    def all(self, *, limit: int) -> tuple[Job, ...]:
        """The newest `limit` jobs by queued_at, newest first, without their lines."""

    def begin(self, job_id: str, *, at: float) -> Job | None:
        """Count one more attempt and set it running; the job as it is then. None where it is unknown or has ended."""

    def put_back(self, job_id: str) -> None:
        """Queue a running job again as if its last attempt had not begun; nothing where it is not running."""

    def report(self, job_id: str, progress: Mapping[str, Any]) -> None:
        """Replace the progress of a job."""

    def say(self, job_id: str, line: JobLine) -> None:
        """Add a line to a job's log; past LINES_KEPT the oldest go."""

    def end(self, job_id: str, state: JobState, *, at: float, result: Mapping[str, Any]) -> bool:
        """End a job that has not ended; False where it has, which then stays as it is."""

    def ask_cancel(self, job_id: str) -> bool:
        """Ask for a job's end; False where it has ended or is unknown."""

    def forget(self, *, before: float) -> int:
        """Remove ended jobs that ended before this; how many."""

    def take_lease(self, name: str, holder: str, *, now: float, until: float) -> bool:
        """Take, or renew, the lease for `holder`; False where another holds it and it is not over at `now`."""

    def drop_lease(self, name: str, holder: str) -> None:
        """Give the lease back; nothing where another holds it."""

    def lease_holder(self, name: str, *, now: float) -> str | None:
        """Who holds the lease at `now`, None where nobody does."""
