"""What is tried is what the zoo and the recipes take."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from model.learner import Learner
from model.optim import RECIPES
from model.search_space import FAMILIES, Axis, Choice, Real, Whole, config_of, space_of
from model.search_space import RECIPES as SEARCHED
from model.train_config import TrainConfig
from model.zoo import ARCHITECTURES, check_params
from tests.model.families import FORMS, Form
from tests.model.nets import random_batch


def ends(axis: Axis) -> Iterator[Any]:
    """The values at an axis's ends, or all of a choice."""
    yield from axis.values.values() if isinstance(axis, Choice) else (axis.low, axis.high)


def checked(given: dict[str, Any]) -> TrainConfig:
    config = TrainConfig.model_validate(given)
    config.built_recipe()
    check_params(config.architecture, config.net_params())
    return config


@pytest.mark.parametrize("recipe", [*RECIPES])
@pytest.mark.parametrize("family", [*ARCHITECTURES])
def test_every_value_that_may_be_tried_is_taken(family: str, recipe: str) -> None:
    given = {"architecture": family, "recipe": recipe}
    for place, axis in space_of(given).items():
        for value in ends(axis):
            checked(config_of(given, {place: value}))


def weights_after_some_steps(form: Form, recipe: str, options: dict[str, Any]) -> dict[str, Tensor]:
    built = RECIPES[recipe].model_validate(options)
    learner = Learner.of(form.net(), None, optimizers=lambda net: built.optimizers(net, 32))
    for seed in range(3):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            learner.step(random_batch(32, seed))
    return learner.net.state_dict()


@pytest.mark.parametrize("recipe", [*RECIPES])
@pytest.mark.parametrize("form", [FORMS[name] for name in (*({*FORMS} & {*ARCHITECTURES} - {"fnn"}), "wide", "deep")])
def test_an_option_is_searched_where_it_changes_what_is_learned_and_nowhere_else(form: Form, recipe: str) -> None:
    given = {"architecture": form.architecture, "recipe": recipe, "params": dict(form.params)}
    space = space_of(given)
    for name, axis in SEARCHED[recipe].items():
        low, high = (weights_after_some_steps(form, recipe, {name: end}) for end in ends(axis))
        same = all(torch.equal(tensor, high[key]) for key, tensor in low.items())
        assert (f"recipe_options.{name}" in space) is not same, name


def test_a_tower_that_is_off_has_nothing_to_search_and_the_machine_of_an_fnn_has() -> None:
    wide = space_of({"architecture": "wide_deep", "recipe": "adam", "params": {"deep": False}})
    assert set(wide) == {"batch_size", "recipe_options.rate", "recipe_options.wide_l2"}
    assert "recipe_options.wide_l2" in space_of({"architecture": "fnn", "recipe": "adam"})


@pytest.mark.parametrize("recipe", [*RECIPES])
def test_every_recipe_has_something_to_search(recipe: str) -> None:
    assert set(SEARCHED[recipe]) <= set(RECIPES[recipe].model_fields)
    assert SEARCHED[recipe]


def test_every_family_that_is_named_is_in_the_zoo() -> None:
    assert set(FAMILIES) <= set(ARCHITECTURES)


def test_what_is_settled_is_not_searched() -> None:
    given = {"architecture": "wide_deep", "recipe": "adam", "params": {"hidden": [8]}, "batch_size": 64}
    space = space_of(given)
    assert "params.hidden" not in space
    assert "batch_size" not in space
    assert {"params.dim", "params.dropout", "recipe_options.rate"} <= set(space)


def test_a_point_goes_over_what_is_given_and_leaves_it_as_it_was() -> None:
    given: dict[str, Any] = {"architecture": "wide_deep", "recipe": "adam", "params": {"dim": 4}}
    config = config_of(given, {"params.hidden": [8], "recipe_options.rate": 0.1, "batch_size": 64})
    assert config["params"] == {"dim": 4, "hidden": [8]}
    assert (config["recipe_options"], config["batch_size"]) == ({"rate": 0.1}, 64)
    assert given == {"architecture": "wide_deep", "recipe": "adam", "params": {"dim": 4}}


def test_low_is_below_high() -> None:
    spaces = [space_of({"architecture": one, "recipe": other}) for one in ARCHITECTURES for other in RECIPES]
    numbers = [axis for space in spaces for axis in space.values() if isinstance(axis, Real | Whole)]
    assert all(axis.low < axis.high for axis in numbers)
