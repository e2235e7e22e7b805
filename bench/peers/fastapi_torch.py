"""Plain FastAPI with torch, the code most people write: `uvicorn --factory bench.peers.fastapi_torch:inline`."""

import torch
from fastapi import FastAPI

from bench.peers.messages import Answer, Body
from bench.peers.network import TorchRanker
from bench.peers.work import Work, precision


def inline() -> FastAPI:
    """Ranks in an `async def` handler, on the event loop."""
    app, ranker = FastAPI(), _ranker()

    @app.post("/rank")
    async def rank(body: Body) -> Answer:
        return ranker.rank(body)

    return app


def threaded() -> FastAPI:
    """Ranks in a `def` handler, which FastAPI runs in a thread of its pool."""
    app, ranker = FastAPI(), _ranker()

    @app.post("/rank")
    def rank(body: Body) -> Answer:
        return ranker.rank(body)

    return app


def _ranker() -> TorchRanker:
    torch.set_num_threads(1)
    return TorchRanker(Work.from_environment(), precision())
