import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.dropout import Dropout
from model.layers import MLP
from model.tower_learning import learned, rectified

ROWS, WIDTHS = 96, (40, 32, 24)


def tower(*, batch_norm: bool = True, dropout: float = 0.25) -> MLP:
    torch.manual_seed(3)
    mlp = MLP(WIDTHS, batch_norm=batch_norm, dropout=dropout)
    for layer in mlp.layers:
        if isinstance(layer, nn.BatchNorm1d):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias)
    return mlp


def one_by_one(mlp: MLP, hidden: Tensor, bits: torch.dtype = torch.int32) -> Tensor:
    """The layers as they are written down, with the masks that the fast way takes from its pool."""
    for layer in mlp.layers:
        if isinstance(layer, Dropout):
            kept = layer.pool.mask(torch.empty(hidden.shape, dtype=bits)) != 0
            hidden = hidden * kept / (1 - layer.p)
        else:
            hidden = F.relu(hidden) if isinstance(layer, nn.ReLU) else layer(hidden)
    return hidden


def everything(mlp: MLP, out: Tensor, given: Tensor) -> dict[str, Tensor]:
    """The logits, all gradients and what batch norms remember."""
    (out.float()[:, 0] * torch.linspace(-1, 1, ROWS)).sum().backward()  # type: ignore[no-untyped-call]  # torch's
    assert given.grad is not None
    gradients = {name: parameter.grad for name, parameter in mlp.named_parameters() if parameter.grad is not None}
    return {"logits": out.detach().float(), "given": given.grad} | gradients | dict(mlp.named_buffers())


@pytest.mark.parametrize("batch_norm", [True, False])
@pytest.mark.parametrize("dropout", [0.25, 0.0])
def test_a_tower_learns_what_its_layers_would_one_by_one(batch_norm: bool, dropout: float) -> None:
    mine, theirs = (tower(batch_norm=batch_norm, dropout=dropout) for _ in range(2))
    given = [torch.randn(ROWS, WIDTHS[0], generator=torch.Generator().manual_seed(4)) for _ in range(2)]
    state = torch.get_rng_state()

    found = everything(mine, learned(mine.layers, given[0].requires_grad_() * 1), given[0])
    torch.set_rng_state(state)
    expected = everything(theirs, one_by_one(theirs, given[1].requires_grad_()), given[1])

    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4, msg=name)


def test_in_bfloat16_it_learns_nearly_what_its_layers_would_in_float32() -> None:
    mine, theirs = tower(), tower()
    given = [torch.randn(ROWS, WIDTHS[0], generator=torch.Generator().manual_seed(4)) for _ in range(2)]
    state = torch.get_rng_state()

    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = everything(mine, learned(mine.layers, given[0].requires_grad_().to(torch.bfloat16)), given[0])
    torch.set_rng_state(state)
    expected = everything(theirs, one_by_one(theirs, given[1].requires_grad_(), torch.int16), given[1])

    for name, value in expected.items():
        near = 0.01 if name == "logits" else 0.2  # a ReLU whose sign rounding turns is in few rows, but wholly
        assert torch.linalg.norm((found[name] - value).float()) <= near * torch.linalg.norm(value.float()) + 1e-5, name


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_what_is_no_number_stays_none_so_that_a_run_that_diverged_is_seen(dtype: torch.dtype) -> None:
    values = torch.tensor([1.0, -1.0, float("nan"), -float("nan"), float("inf")], dtype=dtype)

    out = rectified(values.requires_grad_() * 1)

    assert out.isnan().tolist() == [False, False, True, True, False]
    assert out.detach()[[0, 1, 4]].tolist() == [1, 0, float("inf")]


def test_what_is_dropped_is_zero_and_what_is_kept_is_not_scaled() -> None:
    torch.manual_seed(0)
    values = torch.ones(300, 40).requires_grad_()

    out = rectified(values * 1, Dropout(0.25))
    out.sum().backward()  # type: ignore[no-untyped-call]  # torch ships it untyped

    assert values.grad is not None
    assert torch.equal(out, values.grad)
    assert ((out == 0) | (out == 1)).all()
    assert abs(out.mean().item() - 0.75) < 0.02


def test_another_layer_than_a_tower_has_is_named() -> None:
    with pytest.raises(TypeError, match="Sigmoid"):
        learned([nn.Sigmoid()], torch.ones(2, 2))
