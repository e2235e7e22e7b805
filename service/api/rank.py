"""`POST /rank`: from the wire to a query, from a ranking back to the wire."""

from collections.abc import Callable
from typing import Protocol

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.admission import Refusal, Refused
from service.api.bounds import Bounds, TooManyCandidates
from service.api.messages import RankAnswer, RankRequest, history_of
from service.api.rank_wire import RankBody, written
from service.leaving import LEFT, stays
from service.ranker import Ranking, RankQuery

JSON = "application/json"


class Desk(Protocol):
    """Where rankings are asked for."""

    def check(self, arrived: float) -> None:
        """Raise Overloaded where a ranking that came at `arrived` would have to wait for too long."""

    async def rank(self, query: RankQuery, *, request_id: str, arrived: float, left: Callable[[], bool]) -> Ranking:
        """Rank with the live version. arrived: by the stopwatch; left: whether whoever asked has left.

        Raises Overloaded, NoLiveVersion, Refused and ClientLeft.
        """


def rank_routes(desk: Desk, bounds: Bounds, *, stopwatch: Callable[[], float]) -> APIRouter:
    """The route that everything else is for, as it is documented; what is plainly right takes Shortcut to the desk."""
    router = APIRouter(tags=["rank"])

    @router.post("/rank", response_model=RankAnswer, response_model_exclude_none=True)
    async def rank(body: RankRequest, request: Request) -> Response:
        """The best of the candidates for this user now, by the live version."""
        request_id, query = request.state.request_id, query_of(body, bounds)
        left = getattr(request.state, LEFT, stays)
        ranking = await desk.rank(query, request_id=request_id, arrived=stopwatch(), left=left)
        return Response(written(ranking, request_id=request_id), media_type=JSON)

    return router


def query_of(body: RankRequest | RankBody, bounds: Bounds) -> RankQuery:
    """The query that a body asks. Raises TooManyCandidates and Refused where it asks for more than is allowed."""
    installed, uses = body.user.installed or (), body.user.uses or {}
    named = {"candidates": body.candidates or (), "exclude": body.exclude, "installed": installed, "uses": uses}
    for member, apps in named.items():
        if len(apps) > bounds.max_candidates:
            raise TooManyCandidates(len(apps), limit=bounds.max_candidates, member=member)
    if body.k > bounds.max_k:
        raise Refused(Refusal("/k", f"{body.k} where at most {bounds.max_k} are allowed"))
    told = body.user.installed is not None or body.user.uses is not None
    return RankQuery(
        body.user.id,
        body.user.features,
        history_of(installed, uses) if told else None,
        body.context,
        body.candidates,
        frozenset(body.exclude),
        body.k,
    )
