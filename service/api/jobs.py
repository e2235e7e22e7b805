"""`/admin/retrain` and `/admin/jobs`: ask for a retrain, look how far it is, cancel it. With the admin key."""

from collections.abc import Callable
from functools import partial
from typing import Annotated, TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, Query, Response

from service.api.admin import WHO
from service.api.job_messages import JobId, JobMessage, JobsMessage, RetrainRequest, place_of
from service.container import Container
from service.jobs.asking import ask_retrain

AT_ONCE = 2
MOST_LISTED = 1_000

T = TypeVar("T")


def job_routes(container: Container) -> APIRouter:
    """The calls over the container's queue, on threads of their own few, so that they never take those of rankings."""
    router, queue = APIRouter(prefix="/admin", tags=["admin"]), container.queue
    limiter = CapacityLimiter(AT_ONCE)

    async def apart(call: Callable[[], T]) -> T:
        return await to_thread.run_sync(call, limiter=limiter)

    @router.post("/retrain", status_code=202, response_model_exclude_none=True)
    async def retrain(response: Response, body: RetrainRequest | None = None) -> JobMessage:
        """Queue a retrain; 409 with the other's id where one waits or runs."""
        asked = (body or RetrainRequest()).model_dump()
        job = await apart(partial(ask_retrain, container, asked, who=WHO))
        response.headers.update(place_of(job.id))
        return JobMessage.of(job)

    @router.get("/jobs", response_model_exclude_none=True)
    async def list_jobs(limit: Annotated[int, Query(ge=1, le=MOST_LISTED)] = 20) -> JobsMessage:
        """The newest jobs, newest first, without their lines."""
        jobs = await apart(partial(container.jobs.all, limit=limit))
        return JobsMessage(jobs=[JobMessage.of(job) for job in jobs])

    @router.get("/jobs/{job}")
    async def show_job(job: JobId) -> JobMessage:
        """One job with its progress, its lines and its result."""
        return JobMessage.of(await apart(partial(queue.get, job)), with_lines=True)

    @router.post("/jobs/{job}/cancel")
    async def cancel(job: JobId) -> JobMessage:
        """Ask for its end; a running one has ended a moment after. 409 where it has ended already."""
        return JobMessage.of(await apart(partial(queue.cancel, job, who=WHO)), with_lines=True)

    return router
