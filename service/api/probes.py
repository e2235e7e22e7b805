"""Is the process alive, is it ready, what runs, what has it counted."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from service.api.messages import Alive, VersionAnswer
from service.api.problems import NotReady
from service.engine import Engine
from service.errors import NoLiveVersion
from service.readiness import Readiness
from service.telemetry import Metrics


def probe_routes(engine: Engine, readiness: Readiness, *, metrics: Metrics, software: str) -> APIRouter:
    """The probes need no key. All but the metrics answer on the event loop, so busy threads never hide them."""
    router = APIRouter(tags=["probes"])

    def serves() -> tuple[str, str] | None:
        try:
            live = engine.live()
        except NoLiveVersion:
            return None
        return live.version, live.precision.value

    @router.get("/livez")
    @router.get("/healthz")
    async def live() -> Alive:
        """200 while the process answers at all."""
        return Alive(status="alive")

    @router.get("/readyz")
    async def ready() -> Alive:
        """200 while a warm version serves; 503 before that and from the moment the process is told to end."""
        if obstacle := readiness.obstacle:
            raise NotReady(obstacle)
        return Alive(status="ready")

    @router.get("/version")
    async def version() -> VersionAnswer:
        """The software's version, the live one of this process, and the precision that it answers in."""
        live, precision = serves() or (None, None)
        return VersionAnswer(software=software, live=live, precision=precision)

    @router.get("/metrics", response_class=PlainTextResponse)
    def counted() -> Response:
        """Everything counted, over all processes of this server, as Prometheus reads it."""
        return Response(metrics.expose(serves), media_type=CONTENT_TYPE_LATEST)

    return router
