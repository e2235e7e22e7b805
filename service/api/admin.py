"""`/admin`: look at versions, judge one, try one, take one live, go back. Every call needs the admin key."""

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service import lifecycle
from service.api.admin_messages import (
    ReloadRequest,
    ReportMessage,
    RollbackRequest,
    RolloutAnswer,
    Version,
    VersionMessage,
    VersionsMessage,
)
from service.api.bounds import Bounds
from service.api.messages import RankAnswer, RankRequest
from service.api.rank import JSON, query_of
from service.api.rank_wire import written
from service.container import Container
from service.precision import precision_of
from service.store.ports import Note

AT_ONCE = 2
WHO = "admin key, over HTTP"

T = TypeVar("T")


def admin_routes(container: Container, bounds: Bounds) -> APIRouter:
    """Slow calls wait for their own few threads, so that they never take those of rankings."""
    router = APIRouter(prefix="/admin", tags=["admin"])
    limiter = CapacityLimiter(AT_ONCE)
    serves_in = partial(precision_of, container.settings.precision)

    async def apart(call: Callable[[], T]) -> T:
        return await to_thread.run_sync(call, limiter=limiter)

    @router.get("/versions")
    async def list_versions() -> VersionsMessage:
        """Every version, oldest first, without the reports."""
        entries = await apart(container.registry.versions)
        return VersionsMessage(versions=[VersionMessage.of(entry, precision=serves_in(entry)) for entry in entries])

    @router.get("/versions/{version}")
    async def show_version(version: Version) -> VersionMessage:
        """One version with its newest gate report."""
        entry = await apart(partial(container.registry.get, version))
        return VersionMessage.of(entry, precision=serves_in(entry), with_report=True)

    @router.post("/versions/{version}/gate")
    async def gate(version: Version) -> ReportMessage:
        """Judge it now; a refusal is a report too."""
        return ReportMessage.of(await apart(partial(lifecycle.gate_version, container, version)))

    @router.post("/versions/{version}/rank", response_model=RankAnswer, response_model_exclude_none=True)
    async def rank(version: Version, body: RankRequest, request: Request) -> Response:
        """Rank with it, without serving it. It is loaded for this one call, so expect seconds."""
        query = query_of(body, bounds)
        ranking = await apart(lambda: container.ranker.rank_with(container.prepare(version), query))
        return Response(written(ranking, request_id=request.state.request_id), media_type=JSON)

    @router.post("/reload")
    async def reload(body: ReloadRequest | None = None) -> RolloutAnswer:
        """Take a version live in every process, without a name the newest that passed; 409 with the reason if not."""
        asked = body or ReloadRequest()
        note = Note(WHO, asked.reason, asked.force)
        return RolloutAnswer.of(await apart(partial(lifecycle.promote_version, container, asked.version, note=note)))

    @router.post("/rollback")
    async def rollback(body: RollbackRequest | None = None) -> RolloutAnswer:
        """Take the version live that was live before."""
        note = Note(WHO, body.reason if body else "")
        return RolloutAnswer.of(await apart(partial(lifecycle.roll_back, container, note=note)))

    return router
