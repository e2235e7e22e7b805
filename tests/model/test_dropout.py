import pytest
import torch
from torch import nn

from model.dropout import Dropout, MaskPool
from tests.model.families import FORMS


def test_kept_values_are_scaled_so_that_their_mean_stays_and_gradients_follow_the_mask() -> None:
    torch.manual_seed(0)
    layer, values = Dropout(0.25), torch.ones(2000, 50).requires_grad_()

    out = layer(values)
    out.sum().backward()

    assert values.grad is not None
    assert torch.equal(out, values.grad)
    torch.testing.assert_close(out.detach().unique(), torch.tensor([0, 4 / 3]))
    assert abs(out.mean().item() - 1) < 0.01


def test_masks_differ_from_step_to_step_and_from_layer_to_layer_of_one_pool() -> None:
    torch.manual_seed(0)
    pool = MaskPool(0.5)
    first, second = Dropout(0.5, pool), Dropout(0.5, pool)
    values = torch.ones(64, 16)

    masks = [first(values), first(values), second(values)]

    for one in range(3):
        for other in range(one):
            assert 0.3 < (masks[one] == masks[other]).float().mean() < 0.7


def test_evaluation_changes_nothing() -> None:
    values = torch.randn(5, 3)
    assert torch.equal(Dropout(0.9).eval()(values), values)


def test_the_generators_state_gives_the_masks_again_in_a_pool_that_has_to_be_drawn_anew() -> None:
    torch.manual_seed(3)
    layer, values = Dropout(0.5), torch.ones(300, 70)
    layer(torch.ones(600, 1000))  # a longer run of numbers than the other will have
    state = torch.get_rng_state()
    expected = [layer(values), layer(values)]

    torch.manual_seed(99)
    torch.set_rng_state(state)
    again = Dropout(0.5)

    assert all(torch.equal(again(values), one) for one in expected)


def test_masks_are_of_the_type_of_what_they_mask() -> None:
    torch.manual_seed(0)
    layer = Dropout(0.5)
    assert layer(torch.ones(8, 8)).dtype is torch.float32
    assert layer(torch.ones(8, 8, dtype=torch.bfloat16)).dtype is torch.bfloat16


@pytest.mark.parametrize("name", [name for name, form in FORMS.items() if form.params.get("dropout")])
def test_every_family_takes_the_masks_of_all_its_layers_from_one_pool(name: str) -> None:
    layers = [module for module in FORMS[name].net().modules() if isinstance(module, nn.Dropout)]

    assert layers
    assert all(isinstance(layer, Dropout) for layer in layers)
    assert len({layer.pool for layer in layers if isinstance(layer, Dropout)}) == 1
