"""The queue of jobs: one waits or runs at a time, over every process that shares the store."""

import logging
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

from service.errors import JobEnded, JobUnderWay, UnknownJob
from service.jobs.broker import AWAY, Broker
from service.rollout import Time
from service.store.job_ports import Job, JobState, JobStore

RETRAIN, DEMO = "retrain", "demo"
"""The kinds of job."""

LEASE = "retrain"
"""The lease of the worker that sees to a job."""

PRESENCE = "worker"
"""The lease that says that some worker is up."""

SUBMIT, SUBMIT_S = "submit", 10.0
"""The lease of who enters a job, and the seconds after which one that was killed meanwhile no longer holds it."""

ANY_ID = re.compile(r"[A-Za-z0-9-]{1,80}")
"""What may be a job's id; of anything else no store is asked."""

LOOKED_AT = 50
"""Newest jobs that are looked at; as one waits or runs at a time, one that has not ended is the newest."""

log = logging.getLogger(__name__)


class JobQueue:
    """Takes jobs in and cancels them; a worker, here or elsewhere, sees to them."""

    def __init__(self, store: JobStore, broker: Callable[[], Broker], *, time: Time) -> None:
        self.store = store
        self._broker = broker
        self._time = time

    @property
    def broker(self) -> Broker:
        """The messages. Raises StoreUnavailable where the queue cannot be opened."""
        return self._broker()

    def submit(self, kind: str, options: Mapping[str, Any], *, who: str) -> Job:
        """Enter a job and wake a worker. Raises JobUnderWay while another job waits or runs."""
        with self._alone():
            if other := self.unfinished():
                raise JobUnderWay(other.id, state=other.state)
            job = self._enter(kind, options, who)
        self.wake(job.id)
        return job

    def submit_due(self, kind: str, options: Mapping[str, Any], *, due: float) -> Job | None:
        """Enter the job that was due at that time, unless one has run since or was under way: then there is none."""
        with self._alone():
            if any(job.ended_at is None or job.ended_at >= due for job in self.store.all(limit=LOOKED_AT)):
                return None
            job = self._enter(kind, options, "schedule")
        self.wake(job.id)
        return job

    def wake(self, job_id: str) -> None:
        """Tell some worker of a job; where the queue is away, one finds the job when it looks at the store."""
        try:
            self.broker.wake(job_id)
        except AWAY as error:
            log.warning("job %s could not be put into the queue; a worker that looks will find it: %s", job_id, error)

    def unfinished(self) -> Job | None:
        """The job that waits or runs, without its lines."""
        return next((job for job in self.store.all(limit=LOOKED_AT) if not job.state.ended), None)

    def get(self, job_id: str) -> Job:
        """A job with its lines. Raises UnknownJob."""
        job = self.store.get(job_id) if ANY_ID.fullmatch(job_id) else None
        if job is None:
            raise UnknownJob(job_id)
        return job

    def cancel(self, job_id: str, *, who: str) -> Job:
        """Ask for a job's end; one that no worker is at has ended when this returns. Raises UnknownJob, JobEnded."""
        job = self.get(job_id)
        if not self.store.ask_cancel(job_id):
            raise JobEnded(job_id, state=self.get(job_id).state)
        now = self._time.clock()
        if job.state is JobState.QUEUED or not self.store.lease_holder(LEASE, now=now):
            self.store.end(job_id, JobState.CANCELLED, at=now, result={"error": f"cancelled by {who}"})
        return self.get(job_id)

    def attended(self) -> bool:
        """Whether some worker is up."""
        return self.store.lease_holder(PRESENCE, now=self._time.clock()) is not None

    def _enter(self, kind: str, options: Mapping[str, Any], who: str) -> Job:
        now = self._time.clock()
        job = Job(new_job_id(kind, now), kind, options, who, now)
        self.store.add(job)
        return job

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """One who looks and enters at a time."""
        holder = secrets.token_hex(8)
        while not self._held(holder):
            self._time.wait(0.05)
        try:
            yield
        finally:
            self.store.drop_lease(SUBMIT, holder)

    def _held(self, holder: str) -> bool:
        now = self._time.clock()
        return self.store.take_lease(SUBMIT, holder, now=now, until=now + SUBMIT_S)


def new_job_id(kind: str, now: float) -> str:
    """`retrain-20261120T194846Z-1a2b3c`, where its last six digits are those of the version that it makes too."""
    stamp = datetime.fromtimestamp(now, UTC).strftime("%Y%m%dT%H%M%SZ")
    return f"{kind}-{stamp}-{secrets.token_hex(3)}"


def token_of(job_id: str) -> str:
    """The digits that a job and its version share."""
    return job_id[-6:]
