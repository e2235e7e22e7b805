from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import nn

from model.batch import Batch, Pair
from model.cross_plan import EvenBag
from model.layers import MLP
from model.quick import Layer, PackedMLP, best_dtype, packed_layer, quickened, rectified
from model.zoo import build, forward
from tests.model.families import FORMS, Form
from tests.model.nets import SIZES, random_batch, scrambled

SETTINGS: list[dict[str, Any]] = [
    {"batch_norm": False, "dropout": 0.0},
    {"batch_norm": True, "dropout": 0.0},
    {"batch_norm": True, "dropout": 0.4},
]


def tower(hidden: tuple[int, ...] = (64, 32, 16), *, batch_norm: bool = False, dropout: float = 0.0) -> MLP:
    torch.manual_seed(0)
    mlp = MLP(hidden, batch_norm=batch_norm, dropout=dropout)
    for layer in mlp.layers:
        if isinstance(layer, nn.BatchNorm1d):
            scrambled(layer)
    return mlp.requires_grad_(False).eval()


@pytest.mark.parametrize("settings", SETTINGS)
@pytest.mark.parametrize("hidden", [(64, 32, 16), (24,)])
def test_a_packed_tower_in_float32_equals_the_plain_one(settings: dict[str, Any], hidden: tuple[int, ...]) -> None:
    mlp, x = tower(hidden, **settings), torch.randn(50, hidden[0])

    torch.testing.assert_close(PackedMLP(mlp, torch.float32)(x.clone()), mlp(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("settings", SETTINGS)
def test_a_packed_tower_in_bfloat16_is_off_by_no_more_than_its_rounding(settings: dict[str, Any]) -> None:
    mlp, x = tower(**settings), torch.randn(50, 64)

    error = (PackedMLP(mlp, torch.bfloat16)(x.to(torch.bfloat16)) - mlp(x)).abs().max()

    assert 0 < error < 0.02
    assert PackedMLP(mlp, torch.bfloat16)(x.clone()).dtype is torch.float32


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_row_scores_as_it_does_among_many(dtype: torch.dtype) -> None:
    packed, x = PackedMLP(tower(), dtype), torch.randn(300, 64).to(dtype)

    together = packed(x.clone())
    alone = torch.cat([packed(row[None].clone()) for row in x])

    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3 if dtype is torch.bfloat16 else 1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_equal_rows_score_exactly_alike_wherever_they_stand(dtype: torch.dtype) -> None:
    packed, row = PackedMLP(tower(batch_norm=True, dropout=0.0), dtype), torch.randn(1, 64).to(dtype)

    for count in (2, 17, 40, 203):
        assert len(packed(row.repeat(count, 1)).unique()) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_relu_in_place_is_that_of_torch(dtype: torch.dtype) -> None:
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, torch.inf, -torch.inf, 1e-40, -1e-40])]).to(dtype)

    torch.testing.assert_close(rectified(x.clone()), torch.relu(x), rtol=0, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("broken", ["gone", "refuses", "wrong"])
def test_without_the_private_operators_a_layer_is_the_plain_one(
    monkeypatch: pytest.MonkeyPatch, broken: str, dtype: torch.dtype
) -> None:
    def stand_in(weight: torch.Tensor, bias: torch.Tensor, after: str) -> Layer:
        if broken == "refuses":
            raise RuntimeError("no such kernel")
        if broken == "gone":
            torch.ops.mkldnn.gone_since(weight)
        return lambda x: x @ weight.T

    monkeypatch.setattr("model.quick._one_dnn", stand_in)
    weight, bias, x = torch.randn(8, 16), torch.randn(8), torch.randn(5, 16)

    found = packed_layer(weight, bias, dtype)(x.to(dtype))

    expected = torch.relu(nn.functional.linear(x.to(dtype), weight.to(dtype), bias.to(dtype)))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(("flags", "dtype"), [
    ({"avx512_bf16": True}, torch.bfloat16),
    ({"avx512_bf16": False, "amx_bf16": True}, torch.bfloat16),
    ({"avx2": True}, torch.float32),
])  # fmt: skip
def test_bfloat16_is_taken_only_where_the_processor_multiplies_it(
    monkeypatch: pytest.MonkeyPatch, flags: Mapping[str, bool], dtype: torch.dtype
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: flags)

    assert best_dtype() is dtype


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_a_quickened_net_equals_its_own_and_shares_its_tables(form: Form) -> None:
    net = form.settled()
    batch, before = random_batch(30), {key: tensor.clone() for key, tensor in net.state_dict().items()}

    with torch.inference_mode():
        quick = quickened(net, torch.float32)
        torch.testing.assert_close(forward(quick, batch), forward(net, batch), rtol=1e-5, atol=1e-5)

    mine = {tensor.data_ptr() for tensor in net.parameters()}
    assert {tensor.data_ptr() for tensor in quick.parameters()} <= mine
    for key, tensor in net.state_dict().items():
        assert torch.equal(tensor, before[key])


def test_bags_of_equal_length_are_added_up_as_any_others() -> None:
    net = build("wide_deep", {"deep": False}, SIZES).requires_grad_(False).eval()
    scrambled(net)
    batch = random_batch(6)
    rows = torch.randint(0, SIZES.crosses, (6, 5))
    even = Batch(batch.request, batch.app, Pair(batch.pair.dense, (EvenBag.of(rows),)), batch.label, batch.weight)

    torch.testing.assert_close(forward(quickened(net, torch.float32), even), forward(net, even))
