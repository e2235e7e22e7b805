"""A warm start: what the parent learned is found again by value, whatever the order, and nothing else changes."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from model.bundle import Bundle
from model.crosses import Crosses
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.growth import grow
from model.learner import Learner, initial_state
from model.optim import RECIPES, FTRLProximal, PaperRecipe, Recipe
from model.position import PositionBias
from model.schema import FeatureSchema, Kind
from model.training import TrainConfig, probabilities
from model.transforms import Transform
from model.vocabulary import FIRST_ID, Quantiles, Vocabulary
from model.warmstart import WarmStart, transfer
from model.zoo import build
from tests.model.nets import scrambled
from tests.model.parents import Named, bundle_from, by_meaning, stand_in, trained
from tests.model.worlds import SCHEMA, dataset

DIM = 4
SMALL: dict[str, Any] = {"dim": DIM, "hidden": (8, 6)}
RECIPE_NAMES = sorted(RECIPES)
REMEMBERING = [name for name in RECIPE_NAMES if name != "sgd"]  # plain descent keeps nothing of a table


def log(users: range, apps: str, *, seed: int = 0, count: int = 400, schema: FeatureSchema = SCHEMA) -> Dataset:
    """Users of even number install the first half of the apps, the others the second, with some noise."""
    rng = np.random.default_rng(seed)
    rows = []
    for place in range(count):
        user, app = int(rng.choice(users)), int(rng.integers(len(apps)))
        label = int((user % 2 == (2 * app < len(apps))) != (rng.random() < 0.1))
        row = {"user_id": f"u{user}", "app_id": apps[app], "label": label, "at": place, "age": float(20 + user)}
        daytime = ("noon", "night")[int(rng.integers(2))]
        rows.append(row | {"daytime": daytime, "split": "train" if place < count * 0.7 else "stop"})
    return dataset(rows, timed=True, schema=schema)


BEFORE, AFTER = log(range(6), "abc"), log(range(2, 9), "bcd", seed=1)


@cache
def parent_of(recipe: str = "paper") -> Bundle:
    config = TrainConfig(recipe=recipe, params=SMALL, batch_size=64, epochs=2)
    return bundle_from(trained(config, BEFORE), BEFORE)


def fresh_learner(
    transform: Transform, *, recipe: Recipe | None = None, params: Mapping[str, Any] = SMALL, positions: bool = False
) -> Learner:
    recipe = recipe or PaperRecipe()
    torch.manual_seed(7)
    net = build("wide_deep", {**recipe.net_params, **params}, transform.sizes)
    position = PositionBias(torch.arange(5)) if positions else None
    return Learner.of(net, position, optimizers=lambda parts: recipe.optimizers(parts, 64))


def meanings(learner: Learner, transform: Transform) -> Named:
    return by_meaning(learner.net.state_dict(), transform, dim=DIM)


def scores(net: nn.Module, transform: Transform, data: Dataset) -> np.ndarray[Any, np.dtype[np.float64]]:
    return probabilities(net, encode(transform, data, rows_of(data, "stop")))  # type: ignore[arg-type]  # a Net


def check_rows(child: Named, parent: Named) -> None:
    """Each row and column of `child` is the parent's, its stand-in, or at its start."""
    for key, tensor in child.items():
        if key in parent:
            assert torch.equal(tensor, parent[key]), key
        elif stand_in(key) in parent:
            assert torch.equal(tensor, parent[stand_in(key)]), key
        elif not key[0].startswith("deep.") or key[0].startswith("deep.first"):
            assert not tensor.any(), key
        else:
            assert tensor.all(), key


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
@pytest.mark.parametrize("compact", [False, True])
def test_before_the_first_step_old_values_have_the_parents_rows_and_new_ones_the_oov_row(
    recipe: str, compact: bool
) -> None:
    parent = parent_of(recipe)
    transform = grow(parent.transform, SCHEMA, AFTER, compact=compact)
    learner = fresh_learner(transform, recipe=RECIPES[recipe]())

    report, _ = transfer(WarmStart(parent), learner, transform)

    new = meanings(learner, transform)
    check_rows(new, by_meaning(parent.weights, parent.transform, dim=DIM))
    assert ("wide.request", "user_id", "u8") in new
    assert ("wide.app", "app_id", "d") in new
    assert (("wide.request", "user_id", "u0") in new) is not compact
    assert report.fresh == ()
    assert report.optimizer == "carried"
    assert report.rows_new > 0


@pytest.mark.parametrize("recipe", REMEMBERING)
def test_the_optimizers_state_goes_with_its_rows_and_new_rows_begin_anew(recipe: str) -> None:
    parent = parent_of(recipe)
    assert parent.optimizer is not None
    transform = grow(parent.transform, SCHEMA, AFTER, compact=True)
    learner = fresh_learner(transform, recipe=RECIPES[recipe]())

    report, _ = transfer(WarmStart(parent), learner, transform)

    state = learner.state()
    assert state.keys() == parent.optimizer.keys()
    assert (report.optimizer, report.state_reset) == ("carried", ())
    for kind in ("z", "n", "sum") if recipe == "paper" else ("m", "v", "exp_avg", "exp_avg_sq"):
        mine, theirs = of_kind(state, transform, kind), of_kind(parent.optimizer, parent.transform, kind)
        assert mine.keys() & theirs.keys()
        for key, tensor in mine.items():
            if key in theirs:
                assert torch.equal(tensor, theirs[key]), (kind, key)
            elif kind != "z":
                assert tensor.eq(1e-4 if kind == "sum" else 0.0).all(), (kind, key)


def of_kind(state: Mapping[str, Tensor], transform: Transform, kind: str) -> Named:
    """One kind of optimizer state by what it stands for, where there is any."""
    shapes = {name.split("/")[0]: tensor for name, tensor in state.items() if tensor.dim()}
    every = {f"{name}/{kind}": state.get(f"{name}/{kind}", tensor * torch.nan) for name, tensor in shapes.items()}
    named = by_meaning(every, transform, dim=DIM, kind=f"/{kind}")
    return {key: tensor for key, tensor in named.items() if not tensor.isnan().any()}


POOL: dict[str, dict[str, Any]] = {
    "user_id": {"source": "user", "kind": "categorical"},
    "age": {"source": "user", "kind": "continuous"},
    "daytime": {"source": "context", "kind": "categorical"},
    "battery": {"source": "context", "kind": "continuous"},
    "installed": {"source": "history", "kind": "multi"},
    "app_id": {"source": "app", "kind": "categorical"},
    "tags": {"source": "app", "kind": "multi"},
    "rating": {"source": "app", "kind": "continuous"},
    "own_uses": {"source": "pair", "kind": "continuous", "of": "uses"},
    "other_users": {"source": "pair", "kind": "continuous", "of": "others"},
}
CROSSES: list[dict[str, Any]] = [
    {"fields": ["daytime", "app_id"], "exact": True},
    {"fields": ["installed", "app_id"], "bits": 4},
    {"fields": ["user_id", "daytime"], "exact": True},
]


@st.composite
def transforms(draw: st.DrawFn) -> Transform:
    """Any fields in any order and of any width, with any vocabularies and keys."""
    names = draw(st.permutations(sorted(POOL)))[: draw(st.integers(1, len(POOL)))]
    fields = [{"name": name, **POOL[name]} for name in names]
    for field in fields:
        if field["kind"] != "continuous" and draw(st.booleans()):
            field["dim"] = draw(st.sampled_from([2, DIM]))
    crosses = [cross for cross in draw(st.permutations(CROSSES)) if set(cross["fields"]) <= set(names)]
    schema = FeatureSchema.model_validate({"fields": fields, "crosses": crosses})
    vocabularies = {}
    for one in schema.fields:
        if one.kind is not Kind.CONTINUOUS:
            values = draw(st.lists(st.sampled_from("abcdefgh"), unique=True))
            counts = draw(st.lists(st.integers(0, 9), min_size=len(values) + FIRST_ID, max_size=len(values) + FIRST_ID))
            vocabularies[one.name] = Vocabulary(one.name, tuple(values), np.array(counts, dtype=np.int64))
    quantiles = {one.name: Quantiles((1.0, 2.0)) for one in schema.fields if one.kind is Kind.CONTINUOUS}
    keys = st.sets(st.integers(-9, 9)).map(lambda some: np.array(sorted(some), dtype=np.int64))
    seen = {cross.name: draw(keys) for cross in schema.crosses if cross.exact}
    return Transform(schema, vocabularies, quantiles, Crosses(schema, vocabularies, seen), {})


def scrambled_bundle(transform: Transform) -> Bundle:
    """A parent whose every number is its own, and whose FTRL state gives its weights."""
    learner = fresh_learner(transform)
    scrambled(learner.net)
    for optimizer in learner.optimizers:
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                state = initial_state(optimizer, group, parameter)
                optimizer.state[parameter] = state
                for kind in state.keys() & {"n", "sum", "step", "steps"}:
                    state[kind] += torch.rand(state[kind].shape)
                if isinstance(optimizer, FTRLProximal):
                    state |= optimizer.reconciled(parameter.detach(), state, group)
    result = replace(parent_of(), transform=transform, schema=transform.schema, weights=dict(learner.net.state_dict()))
    return replace(result, optimizer=learner.state())


@settings(max_examples=60, deadline=None)
@given(before=transforms(), after=transforms())
def test_any_schema_after_any_other_takes_over_what_a_naive_loop_finds_by_name(
    before: Transform, after: Transform
) -> None:
    parent, learner = scrambled_bundle(before), fresh_learner(after)
    assert parent.optimizer is not None

    transfer(WarmStart(parent), learner, after)

    check_rows(meanings(learner, after), by_meaning(parent.weights, before, dim=DIM))
    mine, theirs = learner.state(), parent.optimizer
    for kind, initial in (("z", None), ("n", 0.0), ("sum", 1e-4)):
        past = of_kind(theirs, before, kind)
        for key, tensor in of_kind(mine, after, kind).items():
            if key in past:
                torch.testing.assert_close(tensor, past[key], rtol=0 if kind != "z" else 1e-5, atol=0)
            elif initial is not None:
                assert tensor.eq(initial).all(), key
    for name in ("deep.mlp.layers.1.weight", "wide.bias"):
        assert torch.equal(learner.net.state_dict()[name], parent.weights[name])


def test_the_same_vocabularies_give_the_parents_scores_exactly() -> None:
    parent = parent_of()
    learner = fresh_learner(parent.transform)
    again = fresh_learner(parent.transform)
    again.net.load_state_dict(parent.weights)

    transfer(WarmStart(parent), learner, parent.transform)

    np.testing.assert_array_equal(
        scores(learner.net, parent.transform, AFTER), scores(again.net, parent.transform, AFTER)
    )


def test_a_step_after_a_transfer_is_the_step_that_the_parent_would_have_made() -> None:
    for recipe in RECIPE_NAMES:
        parent = parent_of(recipe)
        built = RECIPES[recipe](**({"embedding_l2": 0.01} if recipe == "adam" else {}))
        assert parent.optimizer is not None
        transform = grow(parent.transform, SCHEMA, BEFORE, compact=False)
        learner, other = fresh_learner(transform, recipe=built), fresh_learner(parent.transform, recipe=built)
        transfer(WarmStart(parent), learner, transform)
        other.net.load_state_dict(parent.weights)
        names = {name: parameter for name, parameter in other.parameters.items()}
        for optimizer in other.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    name = next(name for name, one in names.items() if one is parameter)
                    kept = {key: t.clone() for key, t in parent.optimizer.items() if key.startswith(f"{name}/")}
                    optimizer.state[parameter] = {key.split("/")[1]: t for key, t in kept.items()}
        for one, fitted in ((learner, transform), (other, parent.transform)):
            torch.manual_seed(3)  # for dropout
            one.net.train()
            one.step(encode(fitted, BEFORE, rows_of(BEFORE, "train")).batch(torch.arange(64)))
        mine, theirs = learner.net.state_dict(), other.net.state_dict()
        assert all(torch.equal(mine[name], theirs[name]) for name in theirs)
        assert not all(torch.equal(mine[name], parent.weights[name]) for name in theirs)
