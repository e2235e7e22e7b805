"""OpenVINO behind FastAPI, the strongest peer found: `uvicorn --factory bench.peers.fastapi_openvino:create_app`.

The whole network is one graph, embeddings, crosses and all: gathering in NumPy instead took a tenth longer in bf16, and
as long in fp32.
"""

from collections.abc import Mapping

import numpy as np
import openvino as ov
from fastapi import FastAPI
from openvino import opset13 as ops

from bench.peers.messages import Answer, Body
from bench.peers.work import Array, Work, precision


def create_app() -> FastAPI:
    """Ranks in an `async def` handler: one thread a worker, so that there is nothing to wait for."""
    app, ranker = FastAPI(), OpenVinoRanker(Work.from_environment(), precision())

    @app.post("/rank")
    async def rank(body: Body) -> Answer:
        return ranker.rank(body)

    return app


class OpenVinoRanker:
    """Bodies to answers. precision: `fp32` or `bf16`."""

    def __init__(self, work: Work, precision: str) -> None:
        self._work = work
        self._infer = compiled(work.arrays, precision).create_infer_request()

    def rank(self, body: Body) -> Answer:
        """The best `k`."""
        encoded = self._work.encode(body.user.id, body.context, body.candidates)
        inputs = [encoded.request_ids, encoded.request_dense, encoded.app_ids, encoded.app_dense, encoded.crosses]
        self._infer.infer(inputs, share_inputs=True, share_outputs=True)
        logits: Array = self._infer.get_output_tensor(0).data[:, 0]
        best = np.argpartition(-logits, min(body.k, len(logits)) - 1)[: body.k]
        best = best[np.argsort(-logits[best], kind="stable")]
        scores = 1 / (1 + np.exp(-logits[best].astype(np.float64)))
        return Answer.of(body.candidates, best.tolist(), scores=scores.tolist())


def compiled(arrays: Mapping[str, Array], precision: str) -> ov.CompiledModel:
    """The network for any number of candidates, on one thread that is not pinned to a core."""
    inputs = [
        ops.parameter(shape, dtype)
        for shape, dtype in (
            ([24], np.int32),
            ([24], np.float32),
            ([-1, 12], np.int32),
            ([-1, 24], np.float32),
            ([-1, 60], np.int32),
        )
    ]
    logits = ops.add(tower(arrays, *inputs[:4]), wide(arrays, *inputs))
    options = {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": 1,
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
    }
    return ov.Core().compile_model(ov.Model([logits], inputs, "wide_deep"), "CPU", options)


def tower(arrays: Mapping[str, Array], *inputs: ov.Node) -> ov.Node:
    """(N, 1) from a row of 1200 inputs for each candidate."""
    request_ids, request_dense, app_ids, app_dense = inputs
    embedded = ops.reshape(rows(arrays["request.embedding"], request_ids), whole(1, -1), False)
    request = ops.concat([ops.reshape(request_dense, whole(1, -1), False), embedded], 1)
    count = ops.gather(ops.shape_of(app_ids), whole(0), whole(0))
    repeated = ops.broadcast(request, ops.concat([count, whole(request.shape[1])], 0))
    apps = ops.reshape(rows(arrays["app.embedding"], app_ids), whole(0, -1), True)
    hidden = ops.concat([repeated, app_dense, apps], 1)
    for layer in range(4):
        weight, bias = (ops.constant(arrays[f"layer{layer}.{part}"]) for part in ("weight", "bias"))
        hidden = ops.add(ops.matmul(hidden if layer == 0 else ops.relu(hidden), weight, False, True), bias)
    return hidden


def wide(arrays: Mapping[str, Array], *inputs: ov.Node) -> ov.Node:
    """(N, 1): the linear half over ids, continuous values and crosses."""
    request_ids, request_dense, app_ids, app_dense, crosses = inputs
    mine = ops.reduce_sum(rows(arrays["request.wide"], request_ids), whole(0), True)
    mine = ops.add(mine, ops.reduce_sum(ops.multiply(request_dense, arrays["request.wide_dense"]), whole(0), True))
    theirs = ops.reduce_sum(rows(arrays["app.wide"], app_ids), whole(1), True)
    theirs = ops.add(theirs, ops.matmul(app_dense, ops.constant(arrays["app.wide_dense"][:, None]), False, False))
    crossed = ops.reduce_sum(rows(arrays["crosses.wide"], crosses), whole(1), True)
    return ops.add(ops.add(theirs, crossed), ops.add(mine, ops.constant(arrays["bias"])))


def rows(table: Array, places: ov.Node) -> ov.Node:
    """The rows of a table at those places."""
    return ops.gather(ops.constant(np.ascontiguousarray(table)), places, ops.constant(np.int64(0)))


def whole(*values: int) -> ov.Node:
    """A constant of whole numbers."""
    return ops.constant(np.array(values, dtype=np.int64))
