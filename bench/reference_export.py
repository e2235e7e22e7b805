"""The reference work for servers that know nothing of appshelf: a folder of NumPy arrays and JSON, nothing else.

`users.ids` (U, 24), `users.dense` (U, 24), `apps.ids` (A, 12), `apps.dense` (A, 24): the encoded features of `u0`,
`u1`, ... and of the apps that `apps.json` names in order; of a user's last 4 ids and 2 dense values, which are the
context's, a request brings the value, to be encoded by `context.json`. Then the network: for each side (`request`,
`app`) `.offsets` (F,), where a field's rows begin in `.embedding` (rows, 32) and in the linear half's `.wide` (rows,),
`.wide_dense` (24,), and `.hashes` (rows,), the CROSS_BITS low bits of each value's hash. Cross c of two fields
(`crosses.fields`, (60, 2), places within their sides) has row `(hash ^ hash) + c * 2^CROSS_BITS` of `crosses.wide`. The
tower is `layer0.weight` (1024, 1200) over [request dense, request embeddings, app dense, app embeddings] to
`layer3.weight` (1, 256), ReLU between, and the score is sigmoid(tower + linear half + `bias`).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from bench import reference_world as world
from model.batch import Side
from model.bundle import Bundle
from model.schema import Kind, Source

if TYPE_CHECKING:
    from bench.reference import Work

Array = npt.NDArray[Any]
SIDES = {"request": (Source.USER, Source.CONTEXT), "app": (Source.APP,)}


def export(bundle: Bundle, work: "Work", folder: Path) -> None:
    """Write the folder, its `context.json` last."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, array in (*_network(bundle), *_features(bundle, work)):
        np.save(folder / f"{name}.npy", np.ascontiguousarray(array))
    (folder / "apps.json").write_text(json.dumps(world.app_ids(0, work.apps).to_list()), encoding="utf-8")
    fitted = bundle.transform
    context = {
        "ids": {name: fitted.vocabularies[name].index for name in world.CONTEXT_IDS},
        "bounds": {name: fitted.quantiles[name].boundaries for name in world.CONTEXT_DENSE},
    }
    (folder / "context.json").write_text(json.dumps(context), encoding="utf-8")


def _network(bundle: Bundle) -> Iterator[tuple[str, Array]]:
    weights = {name: tensor.numpy() for name, tensor in bundle.weights.items()}
    for side, sources in SIDES.items():
        fields = bundle.schema.of(*sources, kind=Kind.CATEGORICAL)
        vocabularies = [bundle.transform.vocabularies[field.name] for field in fields]
        yield f"{side}.offsets", np.cumsum([0, *(one.size for one in vocabularies)])[:-1]
        yield f"{side}.embedding", weights[f"deep.{side}.tables.0"]
        yield f"{side}.wide", weights[f"wide.{side}.table"][:, 0]
        yield f"{side}.wide_dense", weights[f"wide.{side}.dense"]
        low = np.concatenate([one.hashes for one in vocabularies]) & (2**world.CROSS_BITS - 1)
        yield f"{side}.hashes", low.astype(np.int32)
    yield "crosses.fields", _crossed(bundle)
    yield "crosses.wide", weights["wide.crosses"][:, 0]
    yield "bias", weights["wide.bias"]
    yield "layer0.weight", np.concatenate([weights["deep.first.request"], weights["deep.first.app"]], axis=1)
    yield "layer0.bias", weights["deep.first.bias"]
    for layer, place in enumerate((1, 3, 5), start=1):
        yield f"layer{layer}.weight", weights[f"deep.mlp.layers.{place}.weight"]
        yield f"layer{layer}.bias", weights[f"deep.mlp.layers.{place}.bias"]


def _crossed(bundle: Bundle) -> Array:
    sides = [[field.name for field in bundle.schema.of(*one, kind=Kind.CATEGORICAL)] for one in SIDES.values()]
    return np.array(
        [[side.index(name) for side, name in zip(sides, c.fields, strict=True)] for c in bundle.schema.crosses]
    )


def _features(bundle: Bundle, work: "Work") -> Iterator[tuple[str, Array]]:
    transform, columns = bundle.transform, world.texts(world.users(work.seed, work.users))
    yield from _side("users", transform.requests(columns, work.users))
    parts = []
    for first in range(0, work.apps, world.APPS_AT_ONCE):
        columns = world.texts(world.apps(work.seed, first, world.APPS_AT_ONCE))
        columns["app_id"] = world.app_ids(first, world.APPS_AT_ONCE)
        side = transform.apps(columns, world.APPS_AT_ONCE)
        parts.append(Side(side.ids, side.dense))
    yield from _side("apps", Side(torch.cat([one.ids for one in parts]), torch.cat([one.dense for one in parts])))


def _side(name: str, side: Side) -> Iterator[tuple[str, Array]]:
    yield f"{name}.ids", side.ids.numpy().astype(np.int32)
    yield f"{name}.dense", side.dense.numpy()
