"""Training that learns on from a version: where it begins, what it ends with, and what it never loses."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from model.bundle import Bundle
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.data.synthetic import SyntheticConfig
from model.data.synthetic import dataset as synthetic
from model.growth import grow
from model.metrics import auc
from model.optim import RECIPES
from model.schema import FeatureSchema
from model.scorer import Scorer
from model.training import Progress, TrainConfig, probabilities, train
from model.warmstart import WarmStart, transfer
from tests.model.parents import VERSION, bundle_from, trained
from tests.model.test_warmstart import AFTER, BEFORE, SMALL, fresh_learner, parent_of

CONFIG = TrainConfig(params=SMALL, batch_size=64, epochs=3)
RECIPE_NAMES = sorted(RECIPES)


def stop_auc(bundle: Bundle, data: Dataset) -> float:
    """What the version itself has on the stop split, by its own transform."""
    scorer, rows = Scorer.of(bundle), rows_of(data, "stop")
    return auc(rows["label"].to_numpy().astype(float), probabilities(scorer.net, encode(scorer.transform, data, rows)))


@pytest.mark.parametrize("recipe", RECIPE_NAMES)
def test_the_untrained_start_is_the_first_candidate(recipe: str) -> None:
    parent, seen = parent_of(recipe), list[Progress]()
    config = CONFIG.model_copy(update={"recipe": recipe})

    result = train(config, AFTER, progress=seen.append, start=WarmStart(parent))

    assert [record["epoch"] for record in result.history] == list(range(result.epochs + 1))
    assert (seen[0].epoch, seen[0].auc) == (0, result.history[0]["auc"])
    assert result.metrics["auc"] == max(record["auc"] for record in result.history)
    assert result.history[result.best_epoch]["auc"] == result.metrics["auc"]
    assert result.transferred is not None
    assert result.transferred.parent == VERSION


def test_a_hopeless_rate_leaves_the_version_as_it_was() -> None:
    parent = parent_of()
    config = TrainConfig(params=SMALL, batch_size=64, epochs=10, patience=3, recipe_options={"rate": 30.0})

    result = trained(config, BEFORE, WarmStart(parent, "reset"))

    assert result.metrics["auc"] >= stop_auc(parent, BEFORE)
    assert result.best_epoch == 0
    assert result.epochs == 3
    assert all(torch.equal(result.net.state_dict()[name], tensor) for name, tensor in parent.weights.items())


def test_without_new_values_the_start_scores_as_the_parent_does() -> None:
    parent = parent_of()

    result = trained(CONFIG, BEFORE, WarmStart(parent))

    assert result.history[0]["auc"] == stop_auc(parent, BEFORE)


def test_new_values_begin_where_unknown_ones_stood() -> None:
    parent = parent_of()
    transform = grow(parent.transform, AFTER.schema, AFTER, compact=False)
    learner = fresh_learner(transform)
    transfer(WarmStart(parent), learner, transform)
    scorer, rows = Scorer.of(parent), rows_of(AFTER, "stop")
    hashed = pl.col("user_id").is_in([f"u{user}" for user in range(6)]) & (pl.col("app_id") != "d")

    mine = probabilities(learner.net, encode(transform, AFTER, rows))
    theirs = probabilities(scorer.net, encode(scorer.transform, AFTER, rows))

    known = rows.select(hashed).to_series().to_numpy()
    assert 0 < known.sum() < len(known)
    np.testing.assert_allclose(mine[~known], theirs[~known], atol=0.05)  # but for what their hashed crosses meet
    assert np.corrcoef(mine, theirs)[0, 1] > 0.99


def test_compacting_leaves_the_scores_of_what_is_kept_as_they_were() -> None:
    parent = parent_of()
    transform = grow(parent.transform, AFTER.schema, AFTER, compact=True)
    learner, whole = fresh_learner(transform), Scorer.of(parent)
    transfer(WarmStart(parent, compact=True), learner, transform)
    kept = rows_of(AFTER, "train").filter(
        pl.col("user_id").is_in(parent.transform.vocabularies["user_id"].values), pl.col("app_id").is_in(["b", "c"])
    )

    no_history = replace(AFTER, examples=AFTER.examples.with_columns(label=pl.lit(0, pl.Int8)))
    mine, theirs = (
        probabilities(net, encode(fitted, no_history, kept))
        for net, fitted in ((learner.net, transform), (whole.net, parent.transform))
    )

    assert "u0" not in transform.vocabularies["user_id"].values
    assert len(kept) > 20
    np.testing.assert_array_equal(mine, theirs)


def test_on_the_next_day_it_is_as_good_as_from_scratch_in_two_fifths_of_the_epochs() -> None:
    """Day N + 1 of a store whose tastes drift; what is new is learned, what is old is in the histories alone."""
    store = SyntheticConfig(
        users=200, apps=60, days=8, impressions=12_000, head=10, seed=0, install_rate=0.3, low_rank=0.0, crossed=0.0,
        popularity=1.0, smooth=0.6, context=1.0, activity=0.8,
    )  # fmt: skip
    made, day = synthetic(store)[0], (pl.col("at").dt.date() - store.start).dt.total_days()

    def until(last: int, *, first: int = 0) -> Dataset:
        """The days before `first` past, those before `last` for training, that one to stop by."""
        split = (
            pl.when(day < first).then(pl.lit("past")).when(day < last).then(pl.lit("train")).otherwise(pl.lit("stop"))
        )
        return replace(made, examples=made.examples.filter(day <= last).with_columns(split=split))

    config = TrainConfig(
        params={"dim": 4, "hidden": (16,)}, batch_size=64, epochs=20, patience=3,
        recipe_options={"alpha": 0.02, "l1": 1.0, "rate": 0.01},
    )  # fmt: skip
    yesterday, scratch = trained(config, until(5)), trained(config, until(6))
    few = config.model_copy(update={"epochs": int(0.4 * scratch.best_epoch)})

    warm = trained(few, until(6, first=5), WarmStart(bundle_from(yesterday, until(5))))

    assert scratch.best_epoch >= 5
    assert warm.metrics["auc"] >= scratch.metrics["auc"]


def test_the_optimizers_state_can_be_left_behind() -> None:
    parent = parent_of()

    result = trained(CONFIG, BEFORE, WarmStart(parent, "reset"))

    assert result.transferred is not None
    assert result.transferred.optimizer == "reset"
    assert result.history[0]["auc"] == stop_auc(parent, BEFORE)


def test_a_parent_without_optimizer_state_gives_its_weights_and_says_so() -> None:
    parent = replace(parent_of(), optimizer=None)

    result = trained(CONFIG, BEFORE, WarmStart(parent))

    assert result.transferred is not None
    assert (result.transferred.optimizer, result.transferred.fresh) == ("missing", ())
    assert result.history[0]["auc"] == stop_auc(parent, BEFORE)


def test_another_recipe_takes_the_weights_and_begins_its_state_anew() -> None:
    parent = parent_of("paper")
    config = TrainConfig(recipe="adam", params={**SMALL, "batch_norm": False, "dropout": 0.0}, batch_size=64, epochs=1)

    result = trained(config, BEFORE, WarmStart(parent))

    assert result.transferred is not None
    assert (result.transferred.optimizer, result.transferred.fresh) == ("reset", ())
    assert result.history[0]["auc"] == stop_auc(parent, BEFORE)


def test_another_embedding_width_begins_its_tables_anew_and_says_which() -> None:
    parent = parent_of()
    config = CONFIG.model_copy(update={"params": {**SMALL, "dim": 5}})

    result = trained(config, BEFORE, WarmStart(parent))

    assert result.transferred is not None
    assert set(result.transferred.fresh) == {"deep.request.tables.1", "deep.app.tables.0"}
    assert result.transferred.rows_new > 0
    cold = result.transform.vocabularies["user_id"].counts == 0
    first = result.net.state_dict()["deep.request.tables.1"][: len(cold)]
    assert cold.any()
    assert torch.unique(first[torch.from_numpy(cold)], dim=0).shape[0] == 1  # settled, not left at random


def test_other_layers_begin_anew_and_the_rest_is_taken_over() -> None:
    result = trained(CONFIG.model_copy(update={"params": {"dim": 4, "hidden": (9, 6)}}), BEFORE, WarmStart(parent_of()))

    assert result.transferred is not None
    begun_anew = (
        "deep.first.request",
        "deep.first.app",
        "deep.first.pair",
        "deep.first.bias",
        "deep.mlp.layers.1.weight",
    )
    assert result.transferred.fresh == begun_anew
    assert set(result.transferred.state_reset) == set(begun_anew)
    assert result.transferred.optimizer == "carried"


def test_a_new_field_changes_no_score_until_it_is_learned() -> None:
    parent = parent_of()
    shape = BEFORE.schema.model_dump(mode="json")
    shape["fields"] += [
        {"name": "network", "source": "context", "kind": "categorical"},
        {"name": "battery", "source": "context", "kind": "continuous"},
    ]
    schema = FeatureSchema.model_validate(shape)
    count = len(BEFORE.examples)
    added = BEFORE.examples.with_columns(
        network=pl.Series(["wifi", "mobile"] * (count // 2)), battery=pl.Series(np.linspace(0, 1, count))
    )
    data = replace(BEFORE, schema=schema, examples=added)

    result = trained(CONFIG, data, WarmStart(parent))

    assert result.history[0]["auc"] == pytest.approx(stop_auc(parent, BEFORE), abs=1e-4)
    assert result.net.state_dict()["deep.first.request"].ne(0).any(0).all()


def test_a_log_of_another_sampling_rate_begins_calibrated() -> None:
    parent = parent_of()
    sampled = replace(parent, manifest=parent.manifest.model_copy(update={"sampling_rate": 0.1}))
    hopeless = CONFIG.model_copy(update={"epochs": 1, "recipe_options": {"rate": 30.0}})

    result = trained(hopeless, BEFORE, WarmStart(sampled))

    served = Scorer.of(sampled)
    logits = served.net.state_dict()["wide.bias"] + served.log_rate
    assert result.best_epoch == 0
    torch.testing.assert_close(result.net.state_dict()["wide.bias"], logits)
