"""`POST /rank`: from the wire to a query, from a ranking back to the wire."""

from fastapi import APIRouter
from starlette.requests import Request

from service.admission import Refusal, Refused
from service.api.bounds import Bounds, TooManyCandidates
from service.api.messages import NoticeMessage, RankAnswer, RankedItem, RankRequest, history_of
from service.ranker import Ranker, Ranking, RankQuery


def rank_routes(ranker: Ranker, bounds: Bounds) -> APIRouter:
    """The route that everything else is for. A plain function, so torch never holds up the event loop."""
    router = APIRouter(tags=["rank"])

    @router.post("/rank", response_model_exclude_none=True)
    def rank(body: RankRequest, request: Request) -> RankAnswer:
        """The best of the candidates for this user now, by the live version."""
        return answer_of(ranker.rank(query_of(body, bounds), request_id=request.state.request_id), request)

    return router


def query_of(body: RankRequest, bounds: Bounds) -> RankQuery:
    """The query that a body asks. Raises TooManyCandidates and Refused where it asks for more than is allowed."""
    for asked in (body.candidates or (), body.exclude):
        if len(asked) > bounds.max_candidates:
            raise TooManyCandidates(len(asked), limit=bounds.max_candidates)
    if body.k > bounds.max_k:
        raise Refused(Refusal("/k", f"{body.k} where at most {bounds.max_k} are allowed"))
    told = body.user.installed is not None or body.user.uses is not None
    return RankQuery(
        body.user.id,
        body.user.features,
        history_of(body.user.installed or (), body.user.uses or {}) if told else None,
        body.context,
        body.candidates,
        frozenset(body.exclude),
        body.k,
    )


def answer_of(ranking: Ranking, request: Request) -> RankAnswer:
    """The wire's form of a ranking."""
    return RankAnswer(
        request_id=request.state.request_id,
        version=ranking.version,
        items=[
            RankedItem(rank=rank, app_id=item.app_id, score=item.score) for rank, item in enumerate(ranking.items, 1)
        ],
        degraded=list(ranking.degraded),
        warnings=[NoticeMessage(code=one.code, app_id=one.app_id) for one in ranking.notices],
        took_ms=round(ranking.took_ms, 3),
    )
