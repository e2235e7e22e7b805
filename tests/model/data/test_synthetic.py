"""A synthetic store's log shows what its truth says."""

from datetime import timedelta
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
from polars.testing import assert_frame_equal
from pydantic import ValidationError

from model.data.dataset import promised, read, write
from model.data.history import history_of
from model.data.synthetic import SyntheticConfig, World, dataset, generate, schema
from model.holdout import popularity
from model.metrics import auc

Floats = npt.NDArray[np.float64]
CONFIG = SyntheticConfig(users=600, apps=150, days=10, impressions=60_000, head=15)


@pytest.fixture(scope="module")
def world() -> World:
    return generate(CONFIG)


def changed(**values: float) -> World:
    """A small store with some of its values changed."""
    return generate(SyntheticConfig.model_validate({**SyntheticConfig.small().model_dump(), **values}))


def sigmoid(logit: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-logit)))


def app_numbers(apps: pl.Series) -> npt.NDArray[np.int64]:
    """Each app's row in the truth's arrays."""
    return apps.str.extract(r"(\d+)$").cast(pl.Int64).to_numpy()


def installed_before(made: World) -> pl.DataFrame:
    """(row, candidate, mine) for every app that a row's user had, as the trainer reads it from the log."""
    examples = dataset(made.truth.config)[0]
    lists = history_of(examples, examples.examples, max_values=1_000).installed
    rows = pl.DataFrame({"row": range(len(lists)), "candidate": app_numbers(made.events["app_id"]), "mine": lists})
    long = rows.explode("mine").drop_nulls()
    return long.with_columns(pl.Series("mine", app_numbers(long["mine"])))


def test_equal_configs_give_equal_worlds(world: World) -> None:
    again = generate(CONFIG)
    for mine, theirs in ((world.events, again.events), (world.apps, again.apps), (world.users, again.users)):
        assert_frame_equal(mine, theirs)
    assert np.array_equal(world.probability, again.probability)


def test_another_seed_gives_another_world() -> None:
    assert not changed(seed=1).apps["price"].equals(changed(seed=2).apps["price"])


@pytest.mark.parametrize("config", [SyntheticConfig.small(), CONFIG, SyntheticConfig.demo()])
def test_a_log_has_the_size_and_the_installs_asked_for(config: SyntheticConfig) -> None:
    made = generate(config)
    assert len(made.events) == pytest.approx(config.impressions, rel=0.02)
    assert 0.1 < (made.events["kind"] == "install").mean() < 0.2  # type: ignore[operator]  # booleans have a mean


def test_installs_happen_as_often_as_their_true_probability_says(world: World) -> None:
    decile = world.probability.argsort().argsort() * 10 // len(world.probability)
    installed = (world.events["kind"] == "install").to_numpy()
    expected, seen = (np.bincount(decile, weights) for weights in (world.probability, installed))
    errors = (seen - expected) / np.sqrt(np.bincount(decile, world.probability * (1 - world.probability)))
    assert np.abs(errors).max() < 4


def test_the_probability_follows_from_the_terms_and_the_position(world: World) -> None:
    logit = CONFIG.intercept + world.terms.sum_horizontal().to_numpy()
    examined = world.events["position"].to_numpy() ** -CONFIG.position
    assert np.allclose(world.probability, examined * sigmoid(logit))


def test_the_truth_is_in_no_column() -> None:
    made, truth = dataset(SyntheticConfig.small())
    assert set(made.examples.columns) == {*promised(schema())["examples"], "at", "request_id", "position"}
    assert "position" not in {field.name for field in schema().fields}
    numbers = made.examples.select(pl.selectors.numeric()).drop("label").to_numpy()
    assert all(abs(np.corrcoef(column, truth)[0, 1]) < 0.3 for column in numbers.T)


def test_the_oracle_orders_rows_far_better_than_popularity() -> None:
    made, truth = dataset(CONFIG)
    gate = (made.examples["split"] == "gate").to_numpy()
    rows = made.examples.filter(gate)
    assert auc(rows["label"], truth[gate]) > auc(rows["label"], popularity(made, rows)) + 0.1


def test_crossed_effects_are_no_sum_of_main_effects(world: World) -> None:
    pair = world.truth.pair[: CONFIG.head, : CONFIG.head]
    main = pair.mean(axis=0) + pair.mean(axis=1, keepdims=True) - pair.mean()
    assert (pair - main).var() > 0.7 * pair.var()


def test_crossed_effects_have_no_low_rank(world: World) -> None:
    energy = np.linalg.svd(world.truth.pair[: CONFIG.head, : CONFIG.head], compute_uv=False) ** 2
    assert energy[: CONFIG.rank].sum() < 0.75 * energy.sum()


def test_tastes_have_the_rank_asked_for(world: World) -> None:
    effects = world.truth.users.taste[0] @ world.truth.apps.vector.T
    values = np.linalg.svd(effects, compute_uv=False)
    assert values[CONFIG.rank - 1] > 0.1 * values[0]
    assert values[CONFIG.rank] < 1e-9 * values[0]


def test_within_a_visit_taste_is_one_vector_that_meets_each_app(world: World) -> None:
    for request in world.events["request_id"].unique(maintain_order=True)[:20]:
        shown = (world.events["request_id"] == request).to_numpy()
        vectors = world.truth.apps.vector[app_numbers(world.events["app_id"].filter(shown))]
        effect = world.terms["low_rank"].to_numpy()[shown]
        taste = np.linalg.lstsq(vectors, effect, rcond=None)[0]
        assert np.allclose(vectors @ taste, effect)


def test_the_history_a_trainer_reads_explains_the_crossed_effects(world: World) -> None:
    slot = world.truth.apps.slot
    pairs = installed_before(world)
    total = np.zeros(len(world.events))
    np.add.at(total, pairs["row"].to_numpy(), world.truth.pair[slot[pairs["mine"]], slot[pairs["candidate"]]])
    daytime = world.events["daytime"].replace_strict(["night", "morning", "afternoon", "evening"], [0, 1, 2, 3])
    total += world.truth.daytime[daytime.to_numpy(), slot[app_numbers(world.events["app_id"])]]
    assert np.allclose(total, world.terms["crossed"].to_numpy())


def test_a_pairs_effect_is_recovered_by_counting(world: World) -> None:
    rest = sigmoid(CONFIG.intercept + world.terms.drop("crossed").sum_horizontal().to_numpy())
    pairs = installed_before(world).filter(pl.col("mine") < CONFIG.head, pl.col("candidate") < CONFIG.head)
    at = pairs["row"].to_numpy()
    effect = world.truth.pair[pairs["mine"].to_numpy(), pairs["candidate"].to_numpy()]
    lift = (world.events["kind"] == "install").to_numpy()[at] - rest[at]
    means = [lift[effect == size].mean() for size in (-CONFIG.crossed, 0.0, CONFIG.crossed)]
    assert means[0] + 0.05 < means[1] < means[2] - 0.05


def test_what_stands_first_is_installed_more_often() -> None:
    events = changed(position=0.5).events
    by_position = events.group_by("position").agg((pl.col("kind") == "install").mean()).sort("position")["kind"]
    assert by_position[0] > 2 * by_position[-1]


def test_nobody_is_shown_what_they_have(world: World) -> None:
    examples, shown = dataset(CONFIG)[0], world.events.select("user_id", "app_id")
    assert not history_of(examples, examples.examples, max_values=1).uses.any()
    had = world.users.select("user_id", app_id="installed").explode("app_id").drop_nulls()
    assert shown.join(had, on=["user_id", "app_id"]).is_empty()


def test_a_visit_shows_different_apps_at_one_moment_in_order(world: World) -> None:
    visits = world.events.group_by("request_id").agg(
        pl.col("at", "user_id").n_unique(), pl.col("app_id").is_duplicated().sum(), "position"
    )
    assert (visits["at"] == 1).all()
    assert (visits["user_id"] == 1).all()
    assert (visits["app_id"] == 0).all()
    assert (visits["position"].list.max() == visits["position"].list.len()).all()


@pytest.mark.parametrize("key", ["user_id", "app_id"])
def test_some_arrive_after_the_first_day_and_are_not_seen_before(world: World, key: str) -> None:
    arrived = (world.truth.users if key == "user_id" else world.truth.apps).arrived
    first = world.events.group_by(key).agg(day=(pl.col("at").dt.date().min() - CONFIG.start).dt.total_days())
    numbers = app_numbers(first[key])
    assert 0.02 < (arrived > 0).mean() < 0.25
    assert (first["day"].to_numpy() >= arrived[numbers]).all()
    assert (arrived[numbers] > 0).any()


def test_popularity_and_taste_move_with_the_days_and_stand_without_drift() -> None:
    moving, still = changed(drift=0.1).truth, changed(drift=0.0).truth
    for of_moving, of_still in (
        (moving.apps.popularity, still.apps.popularity),
        (moving.users.taste, still.users.taste),
    ):
        assert np.ptp(of_still, axis=0).max() < 1e-9
        day, week = (np.abs(of_moving[days] - of_moving[0]).mean() for days in (1, 7))
        assert 0 < 1.5 * day < week


def test_a_dataset_is_split_by_day() -> None:
    made, truth = dataset(CONFIG)
    days = made.examples.group_by("split").agg(pl.col("at").dt.date().unique().sort())
    by_split = dict(days.iter_rows())
    last = CONFIG.start + timedelta(days=CONFIG.days - 1)
    assert by_split["gate"] == [last]
    assert by_split["stop"] == [last - timedelta(days=1)]
    assert len(by_split["train"]) == CONFIG.days - 2
    assert len(truth) == len(made.examples)


def test_a_dataset_is_written_and_read_like_any_import(tmp_path: Path) -> None:
    made, _ = dataset(SyntheticConfig.small())
    write(made, tmp_path / "data")
    back = read(tmp_path / "data")
    assert (back.schema, back.facts) == (made.schema, made.facts)
    assert_frame_equal(back.examples, made.examples)


@pytest.mark.parametrize(
    ("values", "reason"),
    [({"users": 100}, "at most 45 are allowed"), ({"apps": 40, "head": 30}, "do not fit into 40 apps")],
)
def test_a_store_too_small_for_its_log_is_refused(values: dict[str, int], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        SyntheticConfig.model_validate(values)
