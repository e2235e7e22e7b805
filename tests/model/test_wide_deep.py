import pytest
import torch
from torch import Tensor, nn

from model.architectures.wide_deep import WideDeep, WideDeepParams
from model.batch import Batch, Side, SideSizes
from model.layers import FieldEmbedding, WideSide
from model.zoo import ARCHITECTURES, UnknownArchitecture, build, check_params, forward
from tests.model.nets import SIZES, ids_of, random_batch, scrambled

PARAMS = WideDeepParams(dim=4, hidden=(8, 6), batch_norm=True)


def naive_wide_side(side: Side, sizes: SideSizes, weights: WideSide, row: int) -> float:
    total = float(side.dense[row] @ weights.dense)
    first = 0
    for place, field in enumerate(sizes.ids):
        total += float(weights.table[first + int(side.ids[row, place])])
        first += field.size
    for bag, field in zip(side.bags, sizes.bags, strict=True):
        total += sum(float(weights.table[first + i]) for i in ids_of(bag, row))
        first += field.size
    return total


def naive_embedding(side: Side, sizes: SideSizes, layer: FieldEmbedding, row: int) -> Tensor:
    """The concatenation, each field looked up by itself, in the order the layer's groups stand."""
    fields, parts = (*sizes.ids, *sizes.bags), [side.dense[row]]
    for group, table in zip(layer.groups, layer.tables, strict=True):
        first = 0
        for member in group:
            is_id = member < len(sizes.ids)
            ids = [int(side.ids[row, member])] if is_id else ids_of(side.bags[member - len(sizes.ids)], row)
            parts.append(torch.stack([table[first + i] for i in ids]).mean(0) if ids else torch.zeros(table.shape[1]))
            first += fields[member].size
    return torch.cat(parts)


def naive_logit(net: WideDeep, batch: Batch, row: int) -> float:
    assert net.wide is not None
    assert net.deep is not None
    wide = float(net.wide.bias) + float(batch.pair.dense[row] @ net.wide.pair_dense)
    wide += naive_wide_side(batch.request, SIZES.request, net.wide.request, row)
    wide += naive_wide_side(batch.app, SIZES.app, net.wide.app, row)
    for bag in (*batch.request.crosses, *batch.app.crosses, *batch.pair.crosses):
        wide += sum(float(net.wide.crosses[i]) for i in ids_of(bag, row))
    first = net.deep.first
    weight = torch.cat([first.request, first.app, first.pair], dim=1)
    request = naive_embedding(batch.request, SIZES.request, net.deep.request, row)
    app = naive_embedding(batch.app, SIZES.app, net.deep.app, row)
    hidden = weight @ torch.cat([request, app, batch.pair.dense[row]]) + first.bias
    for layer in net.deep.mlp.layers:
        hidden = layer(hidden[None])[0] if isinstance(layer, nn.BatchNorm1d) else layer(hidden)
    return wide + float(hidden)


def test_the_whole_net_equals_a_naive_loop() -> None:
    net = WideDeep(SIZES, PARAMS).eval()
    scrambled(net)
    batch = random_batch(9)

    with torch.no_grad():
        logits = forward(net, batch)
        expected = torch.tensor([naive_logit(net, batch, row) for row in range(9)])

    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize("params", [{}, {"wide": False}, {"deep": False}, {"batch_norm": True, "dropout": 0.3}])
def test_every_parameter_gets_a_gradient(name: str, params: dict[str, object]) -> None:
    torch.manual_seed(0)
    net = build(name, {"dim": 4, "hidden": (8, 6), **params}, SIZES)

    forward(net, random_batch(64)).sum().backward()  # type: ignore[no-untyped-call]  # torch ships it untyped

    assert [key for key, p in net.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_one_request_against_many_apps_equals_the_rows_written_out(name: str) -> None:
    net = build(name, {"dim": 4, "hidden": (8, 6)}, SIZES).eval()
    scrambled(net)
    batch = random_batch(12)
    same = batch.request.select(torch.zeros(12, dtype=torch.int64))

    with torch.no_grad():
        once = net.request_part(batch.request.select(torch.tensor([0])))
        split = net.combine(once, net.app_part(batch.app), batch.pair)
        whole = forward(net, Batch(same, batch.app, batch.pair, batch.label, batch.weight))

    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ARCHITECTURES)
@pytest.mark.parametrize(("params", "halved"), [({}, {"deep"}), ({"wide": False}, {"deep"}), ({"deep": False}, set())])
def test_only_matrices_that_feed_a_tower_may_be_read_in_halves(
    name: str, params: dict[str, object], halved: set[str]
) -> None:
    net = build(name, {"dim": 4, "hidden": (8, 6), **params}, SIZES)

    part = net.app_part(random_batch(3).app)

    assert net.halved == halved
    assert all(part[one].dtype == torch.float32 and part[one].dim() == 2 for one in net.halved)


def test_either_half_can_be_switched_off_but_not_both() -> None:
    assert build("wide_deep", {"wide": False}, SIZES).wide is None
    assert build("wide_deep", {"deep": False}, SIZES).deep is None
    with pytest.raises(UnknownArchitecture, match="keep one on"):
        check_params("wide_deep", {"wide": False, "deep": False})


def test_an_unknown_architecture_or_parameter_is_named_with_what_there_is() -> None:
    with pytest.raises(UnknownArchitecture, match=r"no architecture 'wide'; there are wide_deep"):
        check_params("wide", {})
    with pytest.raises(UnknownArchitecture, match="depth"):
        check_params("wide_deep", {"depth": 3})


def test_ids_that_training_never_saw_take_their_fields_weighted_mean() -> None:
    layer = FieldEmbedding(SideSizes((SIZES.app.ids[0], SIZES.app.ids[1]), (), 0), 2)
    before = layer.tables[0].detach().clone()
    counts = {"app_id": torch.tensor([0, 0, 0, 3, 1, 0]), "category": torch.tensor([1, 1, 1, 1])}

    layer.settle_unseen(counts)

    mean = (3 * before[3] + before[4]) / 4
    torch.testing.assert_close(layer.tables[0][[0, 1, 2, 5]], mean.expand(4, 2))
    torch.testing.assert_close(layer.tables[0][[3, 4, 6, 7, 8, 9]], before[[3, 4, 6, 7, 8, 9]])
