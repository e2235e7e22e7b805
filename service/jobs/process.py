"""A worker's process, on its own or beside a server, and the one that does a single job for `appshelf retrain`."""

import logging
import os
import secrets
import shutil
import socket
import time
from collections.abc import Mapping
from dataclasses import dataclass
from threading import Event

from service.container import Container
from service.jobs.attempt import Attempt
from service.jobs.broker import Duties
from service.jobs.options import RetrainOptions
from service.jobs.rounds import RoundParts, Rounds
from service.jobs.schedule import Schedule
from service.jobs.worker import Terms, Worker, WorkerParts
from service.rollout import Time
from service.settings import DAY_S
from service.store.job_ports import Job

BETWEEN_ROUNDS_S = 5.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Hands:
    """A worker and its rounds over one container. stop: set it from any thread, and both come to an end."""

    container: Container
    worker: Worker
    rounds: Rounds
    stop: Event

    @classmethod
    def of(cls, container: Container, environ: Mapping[str, str]) -> "Hands":
        """Wire them; children get `environ`."""
        settings, stop = container.settings, Event()
        name = f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"

        def wait(seconds: float) -> None:
            stop.wait(seconds)

        def start(job: Job) -> Attempt:
            return Attempt.start(["-m", "service.jobs.child", "--job", job.id, "--worker", name], environ)

        times = Time(time.time, wait)
        terms = Terms(settings.job_lease_s, settings.retrain_timeout_s, settings.retrain_attempts)
        worker = Worker(WorkerParts(name, container.queue, start, terms, times), stop)
        rounds = Rounds(
            RoundParts(
                name=name,
                queue=container.queue,
                worker=worker,
                time=times,
                lease_s=settings.job_lease_s,
                schedule=Schedule.parse(settings.retrain_schedule) if settings.retrain_schedule else None,
                retrain=RetrainOptions.of({}, settings).as_json(),
                wants_demo=lambda: settings.bootstrap == "demo" and container.registry.live() is None,
                upkeep=lambda: tidy(container),
            )
        )
        return cls(container, worker, rounds, stop)

    def run(self) -> None:
        """Do what comes until `stop` is set. Raises StoreUnavailable where the queue cannot be opened."""
        logging.getLogger("huey").setLevel(logging.WARNING)  # what it does at info the worker says better
        consumer = self.container.queue.broker.consumer(
            Duties(self.worker.work, self.rounds.due, is_due=self.rounds.is_due)
        )
        consumer.start()
        pause = min(BETWEEN_ROUNDS_S, self.container.settings.job_lease_s / 3)
        self.rounds.go()
        while not self.stop.wait(pause):
            consumer.check_worker_health()
            self.rounds.go()
        consumer.stop(graceful=True)
        self.rounds.leave()

    def burst(self) -> int:
        """Do what waits and end; how many jobs that were. Raises StoreUnavailable."""
        self.rounds.settle_in()
        done = 0
        while not self.stop.is_set() and (job := self.worker.waiting()):
            self.worker.work(job)
            done += 1
        self.container.queue.broker.drain()
        return done


def tidy(container: Container) -> None:
    """Forget jobs that are older than the log, and what no job works on any more. Raises StoreUnavailable."""
    container.jobs.forget(before=container.clock() - container.settings.log_keep_days * DAY_S)
    for folder in container.home.jobs.iterdir() if container.home.jobs.exists() else ():
        job = container.jobs.get(folder.name)
        if job is None or job.state.ended:
            shutil.rmtree(folder, ignore_errors=True)
