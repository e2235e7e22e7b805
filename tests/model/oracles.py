"""Each family's logit of one example, from its paper's formula in plain loops over fields and values.

Nothing of how the layers are cut is used: weights are found by the field that they say they are of.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import combinations
from typing import Any, Protocol

import torch
from torch import Tensor

from model.architectures.dcn_v2 import DCNv2
from model.architectures.deep_crossing import DeepCrossing
from model.architectures.deepfm import DeepFM
from model.architectures.ffm import FieldAwareFM
from model.architectures.fm import FactorizationMachine
from model.architectures.fnn import FNN
from model.architectures.lr import LR
from model.architectures.pnn import PNN
from model.architectures.wide_deep import WideDeep
from model.batch import Bag, Batch, Side, SideSizes
from model.interactions import FieldVectors, NumberVectors
from model.layers import MLP, FieldEmbedding, SplitLinear, Wide, WideSide
from tests.model.nets import NUMBERS, SIZES, ids_of

SIDES = ("request", "app")

Key = tuple[str, str]
"""A field, and what of it a weight is for."""


class Vectored(Protocol):
    """What has a vector for every field of both sides."""

    request: FieldVectors
    app: FieldVectors


def linear_term(net: Wide, batch: Batch, row: int, *, pooling: str) -> float:
    """w . x + b, and the crosses' weights where it has any."""
    total = float(net.bias) + float(batch.pair.dense[row] @ net.pair_dense)
    for name in SIDES:
        total += _side_term(getattr(batch, name), getattr(SIZES, name), getattr(net, name), row=(row, pooling))
    if net.crosses is not None:
        for bag in (*batch.request.crosses, *batch.app.crosses, *batch.pair.crosses):
            total += sum(float(net.crosses[i]) for i in ids_of(bag, row))
    return total


def _side_term(side: Side, sizes: SideSizes, weights: WideSide, *, row: tuple[int, str]) -> float:
    (place, pooling), first = row, 0
    total = sum(float(x) * float(w) for x, w in zip(side.dense[place], weights.dense, strict=True))
    for number, field in enumerate(sizes.ids):
        total += float(weights.table[first + int(side.ids[place, number])])
        first += field.size
    for bag, field in zip(side.bags, sizes.bags, strict=True):
        found = [float(weights.table[first + i]) for i in ids_of(bag, place)]
        total += sum(found) / (max(len(found), 1) if pooling == "mean" else 1)
        first += field.size
    return total


def embeddings(layer: FieldEmbedding, batch: Batch, row: int, *, side: str) -> Iterator[tuple[str, Tensor]]:
    """Every id field's embedding by name, each looked up by itself, a bag's the mean."""
    values, sizes = getattr(batch, side), getattr(SIZES, side)
    fields = (*sizes.ids, *sizes.bags)
    for group, table in zip(layer.groups, layer.tables, strict=True):
        first = 0
        for member in group:
            single = member < len(sizes.ids)
            ids = [int(values.ids[row, member])] if single else _ids(values.bags, member - len(sizes.ids), row)
            rows = [table[first + i] for i in ids]
            yield fields[member].name, torch.stack(rows).mean(0) if rows else torch.zeros(table.shape[1])
            first += fields[member].size


def _ids(bags: Sequence[Bag], place: int, row: int) -> list[int]:
    return ids_of(bags[place], row)


def numbers(batch: Batch, row: int) -> dict[str, float]:
    """Every continuous value of both sides and of the pair by name."""
    found: dict[str, float] = {}
    for side, names in NUMBERS.items():
        found |= dict(zip(names, getattr(batch, side).dense[row].tolist(), strict=True))
    return found


def vectors(net: "Vectored", batch: Batch, row: int, *, pair: NumberVectors) -> dict[str, Tensor]:
    """f_i of every field by name: v of an id, the mean of a bag's, x v of a number. pair: the pair's numbers' layer."""
    found, values = {}, numbers(batch, row)
    for layer in (net.request.numbers, net.app.numbers, pair):
        for block, vector in zip(layer.columns, layer.vectors, strict=True):
            found[block.owner] = values[block.owner] * vector
    for side in SIDES:
        found |= dict(embeddings(getattr(net, side).embedding, batch, row, side=side))
    return found


def products(found: Mapping[str, Tensor]) -> dict[str, float]:
    """<f_i, f_j> of all pairs of fields, by both names in their order."""
    return {"*".join(sorted((i, j))): float(found[i] @ found[j]) for i, j in combinations(found, 2)}


def by_owner(layer: SplitLinear) -> dict[Key, Tensor]:
    """The (H, size) weights of each value that a first layer reads, by whose they say they are."""
    found = {}
    for weight, blocks in zip((layer.request, layer.app, layer.pair), layer.columns, strict=True):
        first = 0
        for block in blocks:
            found[block.owner, str(block.per)] = weight[:, first : first + block.size]
            first += block.size
        assert first == weight.shape[1]
    return found


def hidden_of(layer: SplitLinear, values: Mapping[Key, Tensor]) -> Tensor:
    """(H,): W x + b; every weight has its value and every value its weight."""
    weights = by_owner(layer)
    assert weights.keys() == values.keys()
    total: Tensor = layer.bias.clone()
    for key, weight in weights.items():
        total += weight @ values[key]
    return total


def tower(mlp: MLP, hidden: Tensor) -> float:
    """The logit of a tower whose first layer gave `hidden`."""
    for layer in mlp.layers:
        hidden = layer(hidden[None])[0]
    return float(hidden)


def plain_values(batch: Batch, row: int, *, layers: Sequence[FieldEmbedding]) -> dict[Key, Tensor]:
    """What a tower over looked-up values reads: numbers as they are, and embeddings."""
    found: dict[Key, Tensor] = {(name, "number"): torch.tensor([x]) for name, x in numbers(batch, row).items()}
    for side, layer in zip(SIDES, layers, strict=True):
        found |= {(name, "embedding"): vector for name, vector in embeddings(layer, batch, row, side=side)}
    return found


def lr(net: LR, batch: Batch, row: int) -> float:
    """w . x + b."""
    return linear_term(net.linear, batch, row, pooling="sum")


def fm(net: FactorizationMachine | DeepFM, batch: Batch, row: int) -> float:
    """Rendle 2010, equation 1, pair by pair."""
    pairs = products(vectors(net, batch, row, pair=net.pairs.pair))
    return linear_term(net.linear, batch, row, pooling="mean") + sum(pairs.values())


def ffm(net: FieldAwareFM, batch: Batch, row: int) -> float:
    """Juan et al. 2016: each of a pair of fields with the vector that it has for the other's."""
    found = vectors(net.pairs, batch, row, pair=net.pairs.pair)
    slots = [block.owner for block in net.pairs.pair.slots]
    towards = {name: dict(zip(slots, vector.view(len(slots), -1), strict=True)) for name, vector in found.items()}
    pairs = sum(float(towards[i][j] @ towards[j][i]) for i, j in combinations(slots, 2))
    return linear_term(net.linear, batch, row, pooling="mean") + pairs


def fnn(net: FNN, batch: Batch, row: int) -> float:
    """Zhang et al. 2016, the embedding layer, and a tower."""
    z: dict[Key, Tensor] = {(name, "embedding"): one for name, one in vectors(net, batch, row, pair=net.pair).items()}
    return tower(net.tower.mlp, hidden_of(net.tower.first, z | {("w_0", "place"): net.constant}))


def pnn(net: PNN, batch: Batch, row: int) -> float:
    """Qu et al. 2016: l_z + l_p + b_1, inner products pair by pair, and the outer products of all pairs added up."""
    values = plain_values(batch, row, layers=(net.request.embedding, net.app.embedding))
    found = vectors(net, batch, row, pair=net.pair)
    if net.products.inner:
        values |= {(name, "product"): torch.tensor([p]) for name, p in products(found).items()}
    if net.products.outer:
        width = len(next(iter(found.values())))
        p = sum((torch.outer(i, j) for i in found.values() for j in found.values()), torch.zeros(width, width))
        values["outer", "place"] = torch.tensor([float(p[a, b]) for a in range(width) for b in range(a, width)])
    return tower(net.tower.mlp, hidden_of(net.tower.first, values))


def wide_deep(net: WideDeep, batch: Batch, row: int) -> float:
    """Cheng et al. 2016, equation 3."""
    logit = linear_term(net.wide, batch, row, pooling="sum") if net.wide else 0.0
    if net.deep:
        values = plain_values(batch, row, layers=(net.deep.request, net.deep.app))
        logit += tower(net.deep.mlp, hidden_of(net.deep.first, values))
    return logit


def deepfm(net: DeepFM, batch: Batch, row: int) -> float:
    """Guo et al. 2017, equations 1 to 4."""
    own = [layer for layer in net.own if isinstance(layer, FieldEmbedding)]
    layers = own or (net.request.embedding, net.app.embedding)
    deep = tower(net.tower.mlp, hidden_of(net.tower.first, plain_values(batch, row, layers=layers)))
    return fm(net, batch, row) + deep


def side_by_side(first: SplitLinear, values: Mapping[Key, Tensor]) -> Tensor:
    """x_0: the values in the order in which a layer over all of them reads them."""
    return torch.cat([values[block.owner, str(block.per)] for blocks in first.columns for block in blocks])


def matrix(layer: SplitLinear) -> Tensor:
    """W of a cut layer, in that order."""
    return torch.cat([layer.request, layer.app, layer.pair], dim=1)


def dcn_v2(net: DCNv2, batch: Batch, row: int) -> float:
    """Wang et al. 2021, equation 1 value by value, beside a tower."""
    values = plain_values(batch, row, layers=(net.request, net.app))
    x0 = side_by_side(net.cross.first, values)
    x = x0
    for layer in (net.cross.first, *net.cross.rest):
        mixed = matrix(layer) @ x + layer.bias
        x = torch.stack([x0[i] * mixed[i] + x[i] for i in range(len(x0))])
    deep = tower(net.tower.mlp, hidden_of(net.tower.first, values))
    return float(net.head.weight @ x + net.head.bias) + deep


def deep_crossing(net: DeepCrossing, batch: Batch, row: int) -> float:
    """Shan et al. 2016, unit by unit."""
    x = side_by_side(net.first.first, plain_values(batch, row, layers=(net.request, net.app)))
    for unit in (net.first, *net.rest):
        hidden = unit.between((matrix(unit.first) @ x + unit.first.bias)[None])[0]
        x = torch.relu(x + unit.weight @ hidden + unit.bias)
    return float(net.head.weight @ x + net.head.bias)


ORACLES: Mapping[str, Callable[[Any, Batch, int], float]] = {
    "lr": lr, "fm": fm, "ffm": ffm, "fnn": fnn, "pnn": pnn, "wide_deep": wide_deep, "deepfm": deepfm,
    "dcn_v2": dcn_v2, "deep_crossing": deep_crossing,
}  # fmt: skip
