"""Training that learns on from a version: where it begins, what it ends with, and what it never loses."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from model.bundle import Bundle
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.growth import grow
from model.metrics import auc
from model.optim import RECIPES
from model.scorer import Scorer
from model.training import Progress, TrainConfig, probabilities, train
from model.warmstart import WarmStart, transfer
from tests.model.parents import VERSION, trained
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
