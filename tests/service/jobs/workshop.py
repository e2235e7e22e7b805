"""A worker without processes: children that do what a test says, on a clock that waiting moves."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event

from service.jobs.broker import Broker, sqlite_broker
from service.jobs.queue import JobQueue
from service.jobs.worker import Terms, Worker, WorkerParts
from service.rollout import Time
from service.store.job_ports import Job, JobState, JobStore
from service.store.sqlite import Database
from service.store.sqlite_jobs import SqliteJobStore
from tests.service.clock import Clock

LEASE_S, TIMEOUT_S, ATTEMPTS = 30.0, 100.0, 3
TERMS = Terms(LEASE_S, TIMEOUT_S, ATTEMPTS)

Doing = Callable[["Child"], int | None]
"""What a child comes to at each look: an exit code, or None while it runs on."""


@dataclass
class Child:
    """One attempt, and what became of it."""

    job: Job
    doing: Doing
    killed: bool = False
    looks: int = 0

    def ended(self) -> int | None:
        if self.killed:
            return -9
        self.looks += 1
        return self.doing(self)

    def kill(self) -> None:
        self.killed = True

    def last_words(self) -> list[str]:
        return ["its last word"]


@dataclass
class Workshop:
    """Jobs in a folder. children: every attempt that any worker here has begun; meanwhile: done at each waiting."""

    folder: Path
    clock: Clock = field(default_factory=Clock)
    children: list[Child] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None
    doing: Doing = lambda _: None

    def __post_init__(self) -> None:
        self.store: JobStore = SqliteJobStore(Database(self.folder / "store.sqlite"))
        self.broker: Broker = sqlite_broker(self.folder / "queue.sqlite")
        self.time = Time(self.clock, self.wait)
        self.queue = JobQueue(self.store, lambda: self.broker, time=self.time)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.meanwhile()

    def submit(self) -> str:
        return self.queue.submit("retrain", {}, who="ana").id

    def worker(self, name: str = "w1", *, stop: Event | None = None) -> Worker:
        return Worker(WorkerParts(name, self.queue, self._begin, TERMS, self.time), stop or Event())

    def job(self, job_id: str) -> Job:
        return self.queue.get(job_id)

    def finish(self, child: Child) -> int:
        """What a child does that does its job."""
        self.store.end(child.job.id, JobState.SUCCEEDED, at=self.clock(), result={"version": "v1"})
        return 0

    def _begin(self, job: Job) -> Child:
        child = Child(job, self.doing)
        self.children.append(child)
        return child
