from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from pydantic import ValidationError

from model.data.dataset import Dataset
from model.optim import PaperRecipe
from model.train_config import Diverged
from model.training import Progress, TrainConfig, TrainingFailed, TrainResult, train
from tests.model.worlds import dataset

SMALL: dict[str, Any] = {"dim": 4, "hidden": (16, 8)}


def learnable(count: int = 1500) -> Dataset:
    """Two users who each install two of four apps, told apart by the (user, app) pair alone, with some noise."""
    rng = np.random.default_rng(3)
    rows = []
    for place in range(count):
        user, app = int(rng.integers(2)), int(rng.integers(4))
        label = int((user == app % 2) != (rng.random() < 0.05))
        split = "train" if place < count * 0.7 else "stop"
        rows.append({"user_id": f"u{user}", "app_id": "abcd"[app], "label": label, "split": split, "at": place})
    return dataset(rows, timed=True)


def run(config: TrainConfig, data: Dataset, seen: list[Progress] | None = None) -> TrainResult:
    return train(config, data, progress=(seen if seen is not None else []).append)


@pytest.mark.parametrize("recipe", ["paper", "adam"])
def test_both_recipes_learn_what_is_there_to_learn(recipe: str) -> None:
    result = run(TrainConfig(recipe=recipe, params=SMALL, batch_size=64, epochs=10), learnable())

    assert result.metrics["auc"] > 0.9
    assert result.metrics["auc"] == max(record["auc"] for record in result.history)


@pytest.mark.parametrize("recipe", ["paper", "adam"])
def test_the_same_seed_gives_the_same_weights_and_another_seed_others(recipe: str) -> None:
    data = learnable(400)
    config = TrainConfig(recipe=recipe, params=SMALL, batch_size=64, epochs=2)

    one, two, other = (run(config.model_copy(update={"seed": seed}), data) for seed in (1, 1, 2))

    states = [torch.cat([p.flatten() for p in result.net.parameters()]) for result in (one, two, other)]
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])


def test_training_leaves_the_callers_random_state_alone() -> None:
    torch.manual_seed(9)
    expected = torch.rand(1)
    torch.manual_seed(9)

    run(TrainConfig(params=SMALL, epochs=1), learnable(200))

    assert torch.equal(torch.rand(1), expected)


def test_batch_norm_trains_where_one_row_is_left_over() -> None:
    data = learnable(300)
    rows = len(data.examples.filter(split="train"))

    run(TrainConfig(recipe="adam", params=SMALL, batch_size=rows - 1, epochs=1), data)


def test_it_stops_when_patience_is_spent_and_keeps_the_best_epoch() -> None:
    result = run(TrainConfig(recipe="adam", params=SMALL, batch_size=32, epochs=40, patience=2), learnable(300))

    aucs = [record["auc"] for record in result.history]
    assert len(aucs) < 40
    assert len(aucs) - 1 - int(np.argmax(aucs)) == 2


def test_progress_tells_every_step() -> None:
    seen: list[Progress] = []

    run(TrainConfig(params=SMALL, batch_size=100, epochs=2), learnable(500), seen)

    assert [(p.epoch, p.step) for p in seen] == [(e, s) for e in (1, 2) for s in (1, 2, 3, 4)]
    assert seen[0].auc is None
    assert seen[-1].auc is not None


@pytest.mark.parametrize("split", ["train", "stop"])
def test_labels_of_one_class_are_refused_with_the_numbers(split: str) -> None:
    data = learnable(100)
    one_class = data.examples.with_columns(label=pl.when(split=split).then(1).otherwise("label").cast(pl.Int8))

    with pytest.raises(TrainingFailed, match=rf"{split} split has \d+ rows of which \d+ are positive"):
        run(TrainConfig(params=SMALL), Dataset(data.schema, one_class, data.apps, data.users, data.facts))


def test_where_no_negatives_could_be_drawn_the_refusal_says_what_gives_some() -> None:
    data = learnable(300)
    kept = data.examples.filter((pl.col("split") != "stop") | (pl.col("label") == 1))
    drawn = replace(data, examples=kept, facts=replace(data.facts, negatives="unused"))
    with pytest.raises(TrainingFailed, match=r"stop split has .* list more apps, or write `rule: uniform`"):
        run(TrainConfig(), drawn)


@pytest.mark.parametrize("seed", [-1, 1 << 63])
def test_a_seed_that_no_generator_takes_is_refused_by_name(seed: int) -> None:
    with pytest.raises(ValidationError, match="seed"):
        TrainConfig(seed=seed)
    assert TrainConfig(seed=(1 << 63) - 1).seed


def test_an_empty_holdout_is_refused_with_the_numbers() -> None:
    data = learnable(100)
    trained = data.examples.filter(split="train")

    with pytest.raises(TrainingFailed, match="stop split has 0 rows"):
        run(TrainConfig(params=SMALL), Dataset(data.schema, trained, data.apps, data.users, data.facts))


def test_a_loss_that_is_not_finite_stops_the_run_and_says_where() -> None:
    config = TrainConfig(recipe="adam", recipe_options={"rate": 1e30}, params=SMALL, batch_size=50)

    with pytest.raises(TrainingFailed, match=r"the loss became (nan|inf) at epoch \d+, step \d+ of \d+"):
        run(config, learnable(300))


def test_weights_that_the_last_step_of_an_epoch_spoiled_stop_the_run_too() -> None:
    config = TrainConfig(recipe="adam", recipe_options={"rate": 1e38}, params=SMALL, batch_size=4096)

    with pytest.raises(Diverged, match=r"30 of 30 scores of the stop split are not finite after epoch 1; lower"):
        run(config, learnable(100))


def test_batches_of_one_row_are_refused_for_batch_norm_alone() -> None:
    with pytest.raises(TrainingFailed, match=r"batch_size 1 leaves batch norm no variance .* give 2 or more"):
        run(TrainConfig(recipe="adam", params=SMALL, batch_size=1, epochs=1), learnable(50))

    run(TrainConfig(recipe="adam", params=SMALL | {"batch_norm": False}, batch_size=1, epochs=1), learnable(50))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (TrainConfig(recipe="sgdd"), "no recipe 'sgdd'; there are adam, paper"),
        (TrainConfig(recipe_options={"l1": -1}), "recipe paper: l1"),
        (TrainConfig(recipe="adam", recipe_options={"l1": 1}), "recipe adam: l1"),
        (TrainConfig(recipe="sgd", recipe_options={"rate": float("inf")}), "rate: Input should be a finite number"),
    ],
)
def test_an_unknown_recipe_or_option_is_named(config: TrainConfig, message: str) -> None:
    with pytest.raises(TrainingFailed, match=message):
        run(config, learnable(50))


def test_l1_thins_out_the_wide_side() -> None:
    data, kept = learnable(), list[int]()
    for l1 in (0.0, 60.0):
        config = TrainConfig(recipe_options={"l1": l1}, params={"deep": False}, batch_size=64, epochs=4)
        result = run(config, data)
        weights = torch.cat([p.flatten() for p in result.net.parameters()])
        kept.append(int(weights.count_nonzero()))
        assert result.metrics["auc"] > 0.9

    assert kept[1] < kept[0] / 2


def test_optimizer_state_is_named_by_parameter() -> None:
    result = run(TrainConfig(params=SMALL, epochs=1), learnable(100))

    assert {"wide.crosses/z", "wide.crosses/n", "deep.first.bias/sum"} <= set(result.optimizer_state)


def test_the_kept_optimizer_state_is_of_the_kept_weights() -> None:
    config = TrainConfig(params={"deep": False}, recipe_options={"l1": 0.0}, batch_size=32, epochs=20)
    result = run(config, learnable(300))
    options = config.built_recipe()
    assert isinstance(options, PaperRecipe)

    z, n = (result.optimizer_state[f"wide.app.table/{kind}"] for kind in "zn")

    assert len(result.history) < 20
    expected = -z / ((options.beta + n.sqrt()) / options.alpha)
    torch.testing.assert_close(result.net.state_dict()["wide.app.table"][n > 0], expected[n > 0])


def test_a_batch_of_few_rows_counts_as_few_rows_against_l1() -> None:
    config = TrainConfig(params={"deep": False}, recipe_options={"l1": 1000.0}, batch_size=100_000, epochs=1)

    weights = run(config, learnable(300)).net.parameters()

    assert all(int(weight.count_nonzero()) == 0 for weight in weights)


def test_statistics_count_popularity_in_the_training_split() -> None:
    data = learnable(300)
    statistics = run(TrainConfig(params=SMALL, epochs=1), data).statistics

    positives = data.examples.filter(split="train", label=1)
    assert sum(statistics["popularity"].values()) == len(positives)
    assert statistics["base_rate"] == pytest.approx(len(positives) / len(data.examples.filter(split="train")))
