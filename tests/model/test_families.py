"""A net of every family through all that a version goes through: a training, a bundle, the dry run, a warm start."""

import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch

from model.blocks import axes_of
from model.bundle import Bundle, Golden, load, save
from model.crosses import Crosses
from model.data.dataset import Dataset
from model.gate import judge
from model.learner import Learner
from model.manifest import Manifest
from model.optim import RECIPES
from model.precision_checks import EXACT
from model.query import App, Query
from model.rehearsal import Meters, rehearse
from model.report import Limits
from model.schema import CrossSpec, FeatureSchema
from model.scorer import Scorer
from model.training import TrainConfig, predict
from model.transforms import Transform
from model.vocabulary import FIRST_ID, Vocabulary
from model.warmstart import WarmStart, transfer
from model.zoo import Net
from tests.model import encoders
from tests.model.families import FORMS, Form
from tests.model.nets import random_batch
from tests.model.parents import VERSION, trained
from tests.model.stores import store
from tests.model.test_scorer import apps, queries
from tests.model.test_training import learnable

FEW = encoders.schema_of(
    ["user_id", "likes", "daytime", "installed", "speed", "app_id", "rating", "own_uses"],
    [CrossSpec(fields=("user_id", "app_id"), bits=6), CrossSpec(fields=("daytime", "user_id"), exact=True)],
)
MORE = encoders.schema_of(
    [name for name in encoders.FIELDS if name not in ("plan", "users_of_plan")],
    [*FEW.crosses, CrossSpec(fields=("likes", "daytime", "category"), bits=5)],
)
"""The fields and crosses of FEW with others among them; plan alone has a width of its own, and so a new table."""


@pytest.fixture(params=FORMS.values(), ids=list(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    found: Form = request.param
    return found


def manifest_of(form: Form, schema: FeatureSchema, version: str = VERSION) -> Manifest:
    return Manifest(
        version=version, created_at="2026-11-20T19:48:46+00:00", architecture=form.architecture,
        params=dict(form.params), config={}, recipe="adam", schema_fingerprint=schema.fingerprint(), parent=None,
        facts={}, metrics={}, sampling_rate=1.0,
    )  # fmt: skip


def sound(form: Form) -> Bundle:
    """A bundle of random weights, with golden requests as they score."""
    scorer = encoders.scorer_of(encoders.EVERYTHING, architecture=form.architecture, params=form.params)
    golden = []
    for place in range(6):
        query, shelf = Query(f"v{place}", {"age": 2.0}, {"daytime": "v1"}, {"v2": 1}), encoders.apps(place, 8)
        scores = scorer.score(query, scorer.table(shelf), np.arange(8))
        golden.append(Golden(query, tuple(shelf), tuple(scores.tolist())))
    manifest = manifest_of(form, scorer.schema)
    return Bundle(manifest, scorer.schema, scorer.transform, scorer.net.state_dict(), {}, tuple(golden), None)


def test_a_bundle_read_again_scores_bit_for_bit_the_same(form: Form, tmp_path: Path) -> None:
    bundle = sound(form)

    again = Scorer.of(load(save(bundle, tmp_path)))

    for golden in bundle.golden:
        scores = again.score(golden.query, again.table(golden.apps), np.arange(len(golden.apps)))
        np.testing.assert_array_equal(scores, golden.scores)


def ticks() -> Iterator[float]:
    yield from map(float, range(1_000_000))


def test_the_dry_run_of_a_bundle_passes(form: Form, tmp_path: Path) -> None:
    meters = Meters(clock=ticks().__next__, peak_mib=iter([100.0, 160.0]).__next__)

    checks = rehearse(save(sound(form), tmp_path), None, limits=Limits(), meters=meters)

    assert [check for check in checks if check.outcome == "failed"] == []
    assert {"golden_scores", "golden_exact"} <= {check.name for check in checks if check.outcome == "passed"}


@pytest.fixture(scope="module")
def judged() -> Dataset:
    """A log whose last requests stop a training, every second one, or are the gate's."""
    whole = store(requests=350)
    stops = (pl.col("split") == "gate") & (pl.col("request_id").str.slice(1).cast(pl.Int64) % 2 == 0)
    split = pl.when(stops).then(pl.lit("stop")).otherwise("split").alias("split")
    return replace(whole, examples=whole.examples.with_columns(split))


def test_the_gates_quality_half_passes_a_trained_net_beside_itself_and_proves_that_exact_is_exact(
    form: Form, judged: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("model.precision_checks", "model.fast_scorer"):
        monkeypatch.setattr(f"{module}.best_dtype", lambda: torch.bfloat16)
    options = {"params": dict(form.params), "recipe": "adam", "batch_size": 128, "epochs": 3}
    result = trained(TrainConfig(architecture=form.architecture, **options), judged)
    scorer = Scorer("v1", judged.schema, result.transform, result.net.requires_grad_(False).eval(), 0.0)

    checks = judge(scorer, scorer, judged, limits=Limits())

    assert [check for check in checks if check.outcome == "failed"] == []
    passed = {check.name for check in checks if check.outcome == "passed"}
    assert {"auc", "log_loss", "calibration", "top_10_overlap", EXACT} <= passed


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_served_score_of_a_trained_net_equals_its_training_forward(form: Form, recipe: str) -> None:
    whole = learnable(300)
    data = replace(whole, facts=replace(whole.facts, timed=False))
    options = {"params": dict(form.params), "recipe": recipe, "batch_size": 64, "epochs": 1}
    config = TrainConfig(architecture=form.architecture, **options)

    result = trained(config, data)

    schema, net = result.transform.schema, result.net.requires_grad_(False).eval()
    scorer = Scorer("v1", schema, result.transform, net, math.log(1.0))
    table = scorer.table(apps())
    served = [scorer.score(query, table, np.array([table.index[app]]))[0] for query, app in queries(data, "stop")]
    np.testing.assert_allclose(served, predict(scorer, data, "stop"), atol=1e-6)


def reordered(transform: Transform) -> Transform:
    """The same with values that are new before, between and after the others, which come the other way round."""
    vocabularies = {}
    for name, vocabulary in transform.vocabularies.items():
        values = ("first", *reversed(vocabulary.values), "last")
        vocabularies[name] = Vocabulary(name, values, np.ones(len(values) + FIRST_ID, dtype=np.int64))
    crosses = Crosses(transform.schema, vocabularies, transform.crosses.seen)
    return replace(transform, vocabularies=vocabularies, crosses=crosses)


def learner_of(form: Form, transform: Transform) -> Learner:
    recipe = RECIPES["adam"]()
    return Learner.of(form.net(transform.sizes), None, optimizers=lambda net: recipe.optimizers(net, 64))


def parent_of(form: Form, schema: FeatureSchema) -> Bundle:
    """A net of random weights, with the optimizer's state after a step from where it began."""
    scorer = encoders.scorer_of(schema, architecture=form.architecture, params=form.params)
    learner = learner_of(form, scorer.transform)
    learner.step(random_batch(32, sizes=scorer.transform.sizes))
    weights = scorer.net.state_dict()
    return Bundle(manifest_of(form, schema), schema, scorer.transform, weights, {}, (), learner.state())


def scores(net: Net, transform: Transform) -> npt.NDArray[np.float64]:
    """The probabilities of requests and apps with known values, unknown ones and none."""
    scorer = Scorer("v", transform.schema, transform, net.eval(), 0.0)
    table = scorer.table([*encoders.apps(3, 9), App("v7", {"rating": 0.5}), App("never")])
    asked = [
        Query("v1", {"likes": ["v2", "v5"], "age": 1.0}, {"daytime": "v3", "speed": 0.5}, {"v1": 2, "v4": 1}),
        Query("v7", {"likes": ["v7"]}, {"daytime": "never"}),
        Query("never"),
    ]
    return np.concatenate([scorer.score(query, table, np.arange(11)) for query in asked])


@pytest.mark.parametrize("schema", [FEW, MORE], ids=["the same fields", "more fields"])
def test_a_warm_start_with_a_grown_vocabulary_keeps_the_function_and_the_optimizers_state(
    form: Form, schema: FeatureSchema
) -> None:
    parent = parent_of(form, FEW)
    transform = reordered(encoders.transform_of(schema))
    transform = replace(transform, crosses=Crosses(schema, transform.vocabularies, _keys(parent.transform, transform)))
    learner = learner_of(form, transform)
    before = scores(Scorer.of(parent).net, parent.transform)

    report, _ = transfer(WarmStart(parent), learner, transform)

    np.testing.assert_allclose(scores(learner.net, transform), before, atol=1e-6)
    assert np.ptp(before) > 0.01
    assert report.fresh == ()
    assert (report.optimizer, report.state_reset) == ("carried", ())


def _keys(before: Transform, after: Transform) -> dict[str, npt.NDArray[np.int64]]:
    """The exact crosses' keys that the parent knew."""
    return {name: before.crosses.seen.get(name, keys) for name, keys in after.crosses.seen.items()}


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
def test_after_a_warm_start_new_fields_learn_too(form: Form) -> None:
    parent, transform = parent_of(form, FEW), encoders.transform_of(MORE)
    learner = learner_of(form, transform)
    transfer(WarmStart(parent), learner, transform)
    before = {name: tensor.clone() for name, tensor in learner.net.state_dict().items()}

    for seed in range(3):
        learner.step(random_batch(64, seed, sizes=transform.sizes))

    for name, axes in axes_of(learner.net).items():
        for axis, blocks in axes.items():
            change = (learner.net.state_dict()[name] - before[name]).abs().movedim(axis, 0)
            moved = change.reshape(len(change), -1).sum(1)
            for block, part in zip(blocks, moved.split([one.size for one in blocks]), strict=True):
                alone = axis == 1 and {one.owner for one in axes.get(0, ())} == {block.owner}
                assert part.max() > 0 or alone, (name, block)  # a vector that a field has for itself is never read


def test_after_a_warm_start_two_new_fields_of_an_ffm_learn_their_vectors_for_each_other() -> None:
    transform = encoders.transform_of(MORE)
    learner = learner_of(FORMS["ffm"], transform)
    transfer(WarmStart(parent_of(FORMS["ffm"], FEW)), learner, transform)
    before = {name: tensor.clone() for name, tensor in learner.net.state_dict().items()}

    for seed in range(3):
        learner.step(random_batch(64, seed, sizes=transform.sizes))

    tables = [(name, axes) for name, axes in axes_of(learner.net).items() if name.startswith("pairs.")]
    assert tables
    for name, axes in tables:
        moved = (learner.net.state_dict()[name] - before[name]).abs()
        for mine, rows in zip(axes[0], moved.split([one.size for one in axes[0]]), strict=True):
            for other, part in zip(axes[1], rows.split([one.size for one in axes[1]], dim=1), strict=True):
                assert part.max() > 0 or mine.owner == other.owner, (name, mine.owner, other.owner)
