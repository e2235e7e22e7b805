"""What a child does with its job: the recipe, and an end for it, or none where it is to be begun again."""

import shutil
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any

from model.data.dataset import DatasetError
from model.data.report import ImportRefused
from model.manifest import BundleError
from model.schema import SchemaError
from model.training import TrainingFailed
from model.zoo import UnknownArchitecture
from service.container import Container, build
from service.errors import BundlesUnavailable, HomeGone, JudgingBrokeOff, ServiceError, StoreUnavailable
from service.home import Home
from service.jobs.demo import bootstrap
from service.jobs.desk import Desk, Superseded
from service.jobs.diary import Diary
from service.jobs.queue import DEMO, LEASE, RETRAIN
from service.jobs.retrain import retrain
from service.lifecycle import enter_orphans
from service.rollout import Time
from service.settings import Settings
from service.store.job_ports import Job, JobState

RECIPES: Mapping[str, Callable[[Desk], Mapping[str, Any]]] = {RETRAIN: retrain, DEMO: bootstrap}
AWAY = (StoreUnavailable, BundlesUnavailable, JudgingBrokeOff)
"""What another attempt may find mended."""

REFUSED = (
    ServiceError, DatasetError, ImportRefused, SchemaError, TrainingFailed, UnknownArchitecture, BundleError
)  # fmt: skip
"""What another attempt would meet again."""

TRY_AGAIN = 75
"""The exit code that means: what is needed was away (EX_TEMPFAIL of sysexits.h)."""


def attend(job_id: str, *, worker: str, environ: Mapping[str, str]) -> int:
    """Do the job as a child of `worker`; the exit code. What nobody foresaw is raised, and another attempt follows."""
    times = Time(time.time, time.sleep)
    try:
        desk = desk_of(build(_settings(environ)), job_id, worker=worker, times=times)
        state, result = outcome(desk)
    except (Superseded, HomeGone, *AWAY) as error:
        sys.stderr.write(f"{error}\n")  # which the worker reads
        return TRY_AGAIN
    desk.diary.end(state, result)
    shutil.rmtree(desk.folder, ignore_errors=True)
    return 0


def _settings(environ: Mapping[str, str]) -> Settings:
    """Raises HomeGone where the queue that the job came from is gone, so that no empty home is made in its place."""
    settings = Settings.from_env(environ).patient()
    queue = Home(settings.home).queue
    if settings.redis_url is None and not queue.exists():
        raise HomeGone(settings.home, missing=queue.name)
    return settings


def outcome(desk: Desk) -> tuple[JobState, Mapping[str, Any]]:
    """How the job ends. Raises Superseded and those of AWAY, which end the attempt alone."""
    try:
        enter_orphans(desk.container)
        return JobState.SUCCEEDED, RECIPES[desk.job.kind](desk)
    except AWAY:
        raise
    except REFUSED as error:
        desk.diary.say(str(error))
        return JobState.FAILED, {"error": str(error), "seconds": dict(desk.diary.seconds)}


def desk_of(container: Container, job_id: str, *, worker: str, times: Time) -> Desk:
    """The job's surroundings. Raises Superseded where it is not this worker's to do, and StoreUnavailable."""

    def check() -> Job:
        job = container.jobs.get(job_id)
        if job is None or job.state.ended or job.cancel_asked:
            raise Superseded(f"job {job_id} was ended by somebody else")
        if container.jobs.lease_holder(LEASE, now=times.clock()) != worker:
            raise Superseded(f"job {job_id} is another worker's")
        return job

    return Desk(container, check(), Diary(container.jobs, job_id, time=times), times, check)
