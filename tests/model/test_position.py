"""Position bias: what an app gains by standing high is learned apart, and never served."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.data.synthetic import SyntheticConfig, generate
from model.data.synthetic import dataset as synthetic
from model.position import MOST, PositionBias
from model.training import TrainConfig, TrainResult, probabilities
from model.warmstart import WarmStart
from tests.model.parents import bundle_from, trained

WORLD = SyntheticConfig(
    users=150,
    apps=50,
    days=10,
    impressions=9_000,
    head=10,
    seed=3,
    install_rate=0.4,
    popularity=1.2,
    low_rank=0.3,
    crossed=0.0,
)
CONFIG = TrainConfig(params={"deep": False}, batch_size=128, epochs=6, recipe_options={"l1": 0.3, "alpha": 0.05})
STRENGTH = 1.0
SEEDS = 6

Floats = np.ndarray[Any, np.dtype[np.float64]]


@pytest.fixture(scope="module")
def biased() -> tuple[Dataset, Floats]:
    """A store that puts its most shown apps on top, and (B,) the true probability of each row at the first position.

    An app gains nothing by its place but being looked at: the odds fall as the position to the power of -STRENGTH.
    """
    world, made = generate(WORLD), synthetic(WORLD)[0]
    rng = np.random.default_rng(0)
    rank = made.examples["app_id"].str.extract(r"(\d+)$").cast(pl.Int64).to_numpy()
    order = made.examples.select("request_id", height=np.log1p(rank) + 0.5 * rng.gumbel(size=rank.size))
    place = order.select(pl.col("height").rank("ordinal").over("request_id").cast(pl.Int32)).to_series()
    logit = WORLD.intercept + world.terms.sum_horizontal().to_numpy()
    first = 1 / (1 + np.exp(-logit))
    label = rng.random(logit.size) < first * place.to_numpy().astype(float) ** -STRENGTH
    examples = made.examples.with_columns(position=place, label=pl.Series(label.astype(np.int8)))
    return replace(made, examples=examples), first


def without_positions(data: Dataset) -> Dataset:
    return replace(data, examples=data.examples.drop("position"))


@pytest.fixture(scope="module")
def results(biased: tuple[Dataset, Floats]) -> tuple[TrainResult, TrainResult]:
    return trained(CONFIG, biased[0]), trained(CONFIG, without_positions(biased[0]))


def agreement(result: TrainResult, biased: tuple[Dataset, Floats]) -> float:
    """How the log odds that would be served go with the true ones at one position, over the stop split."""
    data, first = biased
    scores = probabilities(result.net, encode(result.transform, data, rows_of(data, "stop")))
    true = first[(data.examples["split"] == "stop").to_numpy()]
    return float(np.corrcoef(np.log(scores / (1 - scores)), np.log(true / (1 - true)))[0, 1])


def test_with_the_term_what_people_like_is_learned_better_than_without(
    results: tuple[TrainResult, TrainResult], biased: tuple[Dataset, Floats]
) -> None:
    with_term, without = (agreement(result, biased) for result in results)

    assert with_term > without + 0.05


def test_it_learns_how_attention_falls_with_the_position(results: tuple[TrainResult, TrainResult]) -> None:
    weight = results[0].optimizer_state["position.weight"]

    assert weight[1] > weight[2] > weight[3] > weight[4]
    assert "position.weight" not in results[1].optimizer_state


def test_a_score_served_without_the_term_is_calibrated(
    results: tuple[TrainResult, TrainResult], biased: tuple[Dataset, Floats]
) -> None:
    """On the mean of some seeds: the last steps of so small a training move its mean score by 7 %, term or no term."""
    rows = rows_of(biased[0], "train")
    others = [trained(CONFIG.model_copy(update={"seed": seed}), biased[0]) for seed in range(1, SEEDS)]

    served = [probabilities(one.net, encode(one.transform, biased[0], rows)).mean() for one in (results[0], *others)]

    assert np.mean(served) == pytest.approx(rows["label"].cast(pl.Float64).to_numpy().mean(), rel=0.1)


def test_scores_do_not_depend_on_the_position(
    results: tuple[TrainResult, TrainResult], biased: tuple[Dataset, Floats]
) -> None:
    data, rows = biased[0], rows_of(biased[0], "stop")
    moved = rows.with_columns(position=pl.lit(1, pl.Int32))

    one, other = (probabilities(results[0].net, encode(results[0].transform, data, some)) for some in (rows, moved))

    np.testing.assert_array_equal(one, other)


def test_a_warm_start_carries_what_was_learned_of_positions(
    results: tuple[TrainResult, TrainResult], biased: tuple[Dataset, Floats]
) -> None:
    parent = bundle_from(results[0], biased[0])
    hopeless = CONFIG.model_copy(update={"epochs": 1, "recipe_options": {"rate": 1e-12, "alpha": 1e-12}})

    carried = trained(hopeless, biased[0], WarmStart(parent)).optimizer_state
    kept = trained(hopeless, without_positions(biased[0]), WarmStart(parent)).optimizer_state

    learned = results[0].optimizer_state["position.weight"]
    torch.testing.assert_close(carried["position.weight"], learned)
    torch.testing.assert_close(kept["position.weight"], learned)
    assert carried["position.weight/sum"].ge(results[0].optimizer_state["position.weight/sum"]).all()


def test_the_weights_are_centred_so_that_the_odds_average_to_the_nets_own() -> None:
    positions = torch.tensor([1, 1, 1, 2, 2, 7, 0, 0])
    term = PositionBias(positions)
    with torch.no_grad():
        term.weight.normal_()

    odds = term(positions).exp()

    assert odds[:6].mean().item() == pytest.approx(1.0, abs=1e-6)


def test_an_unknown_position_adds_nothing_and_what_stands_far_down_shares_a_weight() -> None:
    term = PositionBias(torch.tensor([1, 2, 3, 90, 1000]))
    with torch.no_grad():
        term.weight.normal_()

    added = term(torch.tensor([0, MOST, MOST + 1, 10_000]))

    assert added[0] == 0.0
    assert added[1] == added[2] == added[3] != 0.0


def test_a_log_without_any_position_trains_no_weight() -> None:
    term = PositionBias(torch.zeros(4, dtype=torch.int64))

    term(torch.tensor([0, 3])).sum().backward()

    assert term.weight.grad is not None
    assert not term(torch.zeros(4, dtype=torch.int64)).any()
