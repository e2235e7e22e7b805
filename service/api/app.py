"""The HTTP application over a container: routes, keys, bounds, problems, and the thread beside them."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from anyio import to_thread
from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.api.access import key_for
from service.api.admin import admin_routes
from service.api.apps import app_routes
from service.api.bounds import BodyLimit, Bounds
from service.api.envelope import Envelope, Instruments
from service.api.events import event_routes
from service.api.jobs import job_routes
from service.api.lanes import THREADS, Lanes
from service.api.messages import ProblemMessage
from service.api.probes import probe_routes
from service.api.problems import PROBLEM_JSON, Boundary, respond
from service.api.rank import rank_routes
from service.api.shortcut import Counter, Shortcut
from service.api.users import user_routes
from service.container import Container
from service.keys import Keys, Scope
from service.readiness import SERVES
from service.release import software_version

State = dict[str, Callable[[], bool]]

BODY_WITHIN_S = 15.0
"""For a body to arrive, so that slow clients do not gather; less than a worker that leaves waits for its answers."""


class Application(FastAPI):
    """FastAPI, whose description of the calls has each problem under the type that it is sent as."""

    def openapi(self) -> dict[str, Any]:
        """The description, made once."""
        if self.openapi_schema is None:
            for calls in super().openapi()["paths"].values():
                for call in calls.values():
                    problem = call["responses"]["default"]
                    (told,) = problem["content"].values()
                    problem["content"] = {PROBLEM_JSON: told}
        return super().openapi()


def create_app(container: Container, keys: Keys) -> FastAPI:
    """Wire HTTP to the container; the container's background runs while the application does."""
    settings = container.settings
    app = Application(
        title="Appshelf",
        summary="Ranks the apps on a store's shelf",
        version=software_version(),
        lifespan=_lifespan_of(container),
        redoc_url=None,
        redirect_slashes=False,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # else each request looks for them three times
        responses={"default": {"model": ProblemMessage, "description": "A problem"}},
        exception_handlers={HTTPException: respond, RequestValidationError: respond},
    )
    bounds = Bounds(settings.max_candidates, settings.max_k)
    app.add_middleware(Lanes)
    app.add_middleware(Shortcut, counter=Counter(container.desk, bounds, keys, container.stopwatch))
    app.add_middleware(BodyLimit, limit=settings.max_body_bytes, within_s=BODY_WITHIN_S)
    app.add_middleware(Boundary)
    instruments = Instruments(container.metrics, container.stopwatch, lambda: os.urandom(16).hex())
    app.add_middleware(Envelope, instruments=instruments)
    for router, scope in _routers(container, bounds):
        app.include_router(router, dependencies=[Depends(key_for(scope, keys))] if scope else [])
    return app


def _routers(container: Container, bounds: Bounds) -> list[tuple[APIRouter, Scope | None]]:
    engine, features, max_events = container.engine, container.features, container.settings.max_events
    probes = probe_routes(engine, container.readiness, metrics=container.metrics, software=software_version())
    return [
        (rank_routes(container.desk, bounds, stopwatch=container.stopwatch), Scope.RANK),
        (user_routes(container, bounds), Scope.EVENTS),
        (app_routes(features, engine), Scope.EVENTS),
        (event_routes(container.intake, limit=max_events, metrics=container.metrics), Scope.EVENTS),
        (admin_routes(container, bounds), Scope.ADMIN),
        (job_routes(container), Scope.ADMIN),
        (probes, None),
    ]


def _lifespan_of(container: Container) -> Callable[[FastAPI], AbstractAsyncContextManager[State]]:
    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        to_thread.current_default_thread_limiter().total_tokens = THREADS
        await to_thread.run_sync(container.background.start)
        yield {SERVES: lambda: container.engine.version is not None}
        container.readiness.drain()
        await to_thread.run_sync(container.background.stop)

    return lifespan
