"""The wire of jobs."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from service.api.admin_messages import Version
from service.api.messages import ID_PATTERN, Message
from service.store.job_ports import Job

JobId = Annotated[str, StringConstraints(min_length=1, max_length=80, pattern=ID_PATTERN)]


class RetrainRequest(Message):
    """`POST /admin/retrain`: what is left out is as the settings have it.

    from: the version to learn on from, live unless given; scratch: learn from nothing, over the whole window; compact:
    drop the rows of values gone cold; promote: take it live where the gate passes it.
    """

    mode: Literal["incremental", "full"] | None = None
    window_days: float | None = Field(None, gt=0, allow_inf_nan=False)
    replay: float | None = Field(None, ge=0, allow_inf_nan=False)
    start_from: Version | None = Field(None, alias="from")
    scratch: bool = False
    compact: bool = False
    reset_optimizer: bool = False
    promote: bool = True


class LineMessage(Message):
    """One line of a job's log."""

    at: str
    text: str


class JobMessage(Message):
    """One job; `result` has an `error` where it failed. Times are ISO 8601, UTC."""

    id: str
    kind: str
    state: Literal["queued", "running", "succeeded", "failed", "cancelled"]
    options: dict[str, Any]
    who: str
    queued_at: str
    began_at: str | None
    ended_at: str | None
    attempt: int
    cancel_asked: bool
    progress: dict[str, Any]
    result: dict[str, Any] | None
    lines: list[LineMessage] | None = None

    @classmethod
    def of(cls, job: Job, *, with_lines: bool = False) -> "JobMessage":
        """The wire's form of a job."""
        lines = [LineMessage(at=moment(line.at), text=line.text) for line in job.lines]
        return cls(
            id=job.id,
            kind=job.kind,
            state=job.state.value,
            options=dict(job.options),
            who=job.who,
            queued_at=moment(job.queued_at),
            began_at=None if job.began_at is None else moment(job.began_at),
            ended_at=None if job.ended_at is None else moment(job.ended_at),
            attempt=job.attempt,
            cancel_asked=job.cancel_asked,
            progress=dict(job.progress),
            result=None if job.result is None else dict(job.result),
            lines=lines if with_lines else None,
        )


class JobsMessage(Message):
    """`GET /admin/jobs`, newest first."""

    jobs: list[JobMessage]


def moment(epoch_s: float) -> str:
    """A time as the wire has it."""
    return datetime.fromtimestamp(epoch_s, UTC).isoformat(timespec="milliseconds")


def place_of(job_id: str) -> Mapping[str, str]:
    """The header that says where a job is looked at."""
    return {"Location": f"/admin/jobs/{job_id}"}
