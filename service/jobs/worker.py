"""The worker: sees to one job at a time over the fleet, each attempt at it in a child process."""

import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from threading import Event

from service.errors import StoreUnavailable
from service.jobs.attempt import Running
from service.jobs.queue import LEASE, LOOKED_AT, JobQueue
from service.rollout import Time
from service.store.job_ports import Job, JobLine, JobState, JobStore
from service.turns import OneAtATime, Turn

LOOK_S = 0.5
LOOKS_AT_ENDED = 10
LONGEST_PAUSE_S = 30.0

log = logging.getLogger(__name__)


class Verdict(StrEnum):
    """Why a worker no longer waits for a child."""

    DONE = "done"
    CRASHED = "crashed"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    LOST = "lost"
    STOPPED = "stopped"


@dataclass(frozen=True)
class Terms:
    """How long a lease and an attempt last, in seconds, and how often a job is begun."""

    lease_s: float
    timeout_s: float
    attempts: int


@dataclass(frozen=True)
class WorkerParts:
    """What a worker works with. name: its own, of no other process ever; start: begins an attempt."""

    name: str
    queue: JobQueue
    start: Callable[[Job], Running]
    terms: Terms
    time: Time


class Worker:
    """Sees to jobs in one thread. Once `stop` is set it ends its child and leaves the job to another worker."""

    def __init__(self, parts: WorkerParts, stop: Event) -> None:
        self._parts = parts
        self._stop = stop
        self._time = parts.time
        turn = Turn(LEASE, parts.terms.lease_s)
        self._held = OneAtATime(self._store, turn, holder=parts.name, clock=parts.time.clock)

    @property
    def _store(self) -> JobStore:
        return self._parts.queue.store

    def work(self, job_id: str) -> None:
        """See to a job until it has ended; at once nothing where it has, or where a worker is at a job already."""
        try:
            if self._held():
                try:
                    self._see_to(job_id)
                finally:
                    self._held.give_back()
        except StoreUnavailable as error:
            log.warning("job %s is left until the store is back: %s", job_id, error)

    def waiting(self) -> str | None:
        """The job that no worker is at, be it that none has begun or that the one that had has died."""
        job = self._parts.queue.unfinished()
        at_work = self._store.lease_holder(LEASE, now=self._time.clock())
        return None if job is None or at_work else job.id

    def _see_to(self, job_id: str) -> None:
        while not self._stop.is_set() and self._held() and self._is_open(job_id):
            job = self._store.begin(job_id, at=self._time.clock())
            if job is None:
                return
            self._say(job, f"attempt {job.attempt} of {self._parts.terms.attempts}, by worker {self._parts.name}")
            child = self._parts.start(job)
            try:
                verdict = self._watched(job, child)
            finally:
                if child.ended() is None:
                    child.kill()
                words = child.last_words()
            self._settle(job, verdict, words)

    def _is_open(self, job_id: str) -> bool:
        """Whether it is to be begun; one that was cancelled, or begun too often, is ended here."""
        job = self._record(job_id)
        if job is None:
            log.warning("a message names the job %s, which is not kept", job_id[:80])
            return False
        if not job.state.ended and job.cancel_asked:
            self._end(job, JobState.CANCELLED, "cancelled before a worker could begin it")
        elif not job.state.ended and job.attempt >= self._parts.terms.attempts:
            step = job.progress.get("step", "begin")
            reason = f"begun {job.attempt} times and never done, the last time up to the step {step}; its lines say why"
            self._end(job, JobState.FAILED, reason)
        else:
            return not job.state.ended
        return False

    def _watched(self, job: Job, child: Running) -> Verdict:
        """Wait for the child, or for a reason not to."""
        until = self._time.clock() + self._parts.terms.timeout_s
        while (code := child.ended()) is None:
            if self._stop.is_set():
                return Verdict.STOPPED
            if self._time.clock() >= until:
                return Verdict.TIMED_OUT
            with suppress(StoreUnavailable):  # the child waits for it too
                if verdict := self._overruled(job, child):
                    return verdict
            self._time.wait(LOOK_S)
        done = code == 0 and self._has_ended(job)
        return Verdict.DONE if done else Verdict.CRASHED

    def _overruled(self, job: Job, child: Running) -> Verdict | None:
        """What the store says against going on."""
        if not self._held():
            return Verdict.LOST
        kept = self._record(job.id)
        if kept is None or kept.state.ended:
            self._let_end(child)
            return Verdict.DONE
        return Verdict.CANCELLED if kept.cancel_asked else None

    def _let_end(self, child: Running) -> None:
        """A child that has written its result is given a moment to end by itself."""
        for _ in range(LOOKS_AT_ENDED):
            if child.ended() is not None:
                return
            self._time.wait(LOOK_S)

    def _settle(self, job: Job, verdict: Verdict, words: list[str]) -> None:
        """What follows from how an attempt ended; after a crash a pause, longer each time."""
        log.info("job %s, attempt %d: %s", job.id, job.attempt, verdict)
        if verdict is Verdict.CANCELLED:
            self._end(job, JobState.CANCELLED, "cancelled while it ran")
        elif verdict is Verdict.STOPPED:  # told to end, as in a redeployment: that is no failure of the job's
            self._say(job, f"attempt {job.attempt} is given back, since its worker was told to end")
            self._store.put_back(job.id)
        elif verdict is Verdict.TIMED_OUT:
            limit = f"{self._parts.terms.timeout_s:g} s, which APPSHELF_RETRAIN_TIMEOUT_S allows"
            self._end(job, JobState.FAILED, f"not done within {limit}")
        elif verdict is Verdict.CRASHED:
            for line in words or ["without a word"]:
                self._say(job, line)
            self._say(job, f"attempt {job.attempt} broke off")
            self._time.wait(min(2.0**job.attempt, LONGEST_PAUSE_S, self._parts.terms.lease_s / 2))

    def _record(self, job_id: str) -> Job | None:
        """The job, its lines left out where it is among the newest."""
        newest = (job for job in self._store.all(limit=LOOKED_AT) if job.id == job_id)
        return next(newest, None) or self._store.get(job_id)

    def _has_ended(self, job: Job) -> bool:
        kept = self._record(job.id)
        return kept is None or kept.state.ended

    def _end(self, job: Job, state: JobState, reason: str) -> None:
        self._say(job, reason)
        self._store.end(job.id, state, at=self._time.clock(), result={"error": reason})

    def _say(self, job: Job, text: str) -> None:
        log.info("job %s: %s", job.id, text)
        self._store.say(job.id, JobLine(self._time.clock(), text))
