from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from bench.frappe_data import CONTEXT, benchmark, schema_of
from bench.quality import figure, report
from bench.quality_configs import PLAIN, SETTINGS, WITH_HISTORY, Setting
from bench.quality_runs import Judged, Run, Runs, Task, key, unseen_pairs
from model.data.examples import rows_of
from model.schema import CrossSpec, Source
from model.training import TrainConfig
from model.zoo import ARCHITECTURES, check_params

CROSS = CrossSpec(fields=("user_id", "app_id"), exact=True)
SETTING = Setting(
    "wide_deep",
    TrainConfig(recipe="adam", params={"dim": 2, "hidden": (4,)}, batch_size=64, epochs=2),
    published=".5",
    least=0.4,
    crosses=(CROSS,),
)


def part(rng: np.random.Generator, rows: int) -> pl.DataFrame:
    """Rows of Frappe_x1's form and nothing of Frappe."""
    user, item = rng.integers(30, size=rows), rng.integers(20, size=rows)
    columns = {name: [f"{name}{number}" for number in rng.integers(3, size=rows)] for name in CONTEXT}
    label = (rng.random(rows) < np.where((user + item) % 2, 0.8, 0.2)).astype(np.int8)
    return pl.DataFrame({"label": label, "user": user, "item": item, **columns})


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder without its test part."""
    rng = np.random.default_rng(0)
    (tmp_path / "frappe_x1").mkdir()
    part(rng, 400).write_parquet(tmp_path / "frappe_x1" / "train_rebuilt.parquet")
    part(rng, 100).write_parquet(tmp_path / "frappe_x1" / "valid.parquet")
    return tmp_path


@pytest.fixture
def runs(data: Path) -> Runs:
    return Runs(data / "runs", cache(partial(Task, data)), tell=lambda _: None)


def add_test(data: Path) -> None:
    part(np.random.default_rng(1), 80).write_parquet(data / "frappe_x1" / "test.parquet")


def test_the_schema_has_the_ten_fields_and_the_app_alone_on_its_side() -> None:
    schema = schema_of([CROSS])
    assert {field.name for field in schema.fields} == {"user_id", "app_id", *CONTEXT}
    assert set(schema.from_source(Source.APP)) == {"app_id"}
    assert schema.crosses == (CROSS,)


def test_history_is_counted_under_the_fields_asked_for_and_no_other() -> None:
    pairs = schema_of(history=("daytime",)).from_source(Source.PAIR)
    assert {field.by for field in pairs.values()} == {None, "daytime"}
    assert not schema_of().from_source(Source.PAIR)


def test_all_of_valid_stops_training_and_the_file_of_test_is_not_needed(data: Path) -> None:
    made = benchmark(data, schema_of())
    assert made.facts.counts["train"] == 400
    assert made.facts.counts["stop"] == 100
    with pytest.raises(Exception, match=r"test\.parquet"):
        benchmark(data, schema_of(), test=True)


def test_test_is_the_gate_where_it_is_to_be_read(data: Path) -> None:
    add_test(data)
    assert benchmark(data, schema_of(), test=True).facts.counts["gate"] == 80


def test_an_unseen_pair_is_one_that_no_training_positive_holds(data: Path) -> None:
    made = benchmark(data, schema_of())
    rows = rows_of(made, "stop")
    train = rows_of(made, "train").filter(pl.col("label") == 1)
    pairs = set(train.select("user_id", "app_id").iter_rows())
    expected = [pair not in pairs for pair in rows.select("user_id", "app_id").iter_rows()]
    assert unseen_pairs(made, rows).tolist() == expected


def test_a_run_is_kept_and_not_trained_again(runs: Runs, data: Path) -> None:
    first = runs.run(SETTING, 1)
    (data / "frappe_x1" / "train_rebuilt.parquet").unlink()
    again = Runs(runs.folder, cache(partial(Task, data)), tell=lambda _: None)
    assert again.run(SETTING, 1) == first
    assert first.test is None


def test_another_seed_or_another_choice_is_another_run() -> None:
    other = SETTING.config.model_copy(update={"batch_size": 32})
    keys = {
        key(SETTING, 1),
        key(SETTING, 2),
        key(Setting("wide_deep", other, ".5", 0.4, (CROSS,)), 1),
        key(Setting("wide_deep", SETTING.config, ".5", 0.4), 1),
    }
    assert len(keys) == 4
    assert key(Setting("wide_deep", SETTING.config, ".6", 0.5, (CROSS,)), 1) == key(SETTING, 1)


def test_test_is_read_with_the_kept_weights_and_its_figures_are_kept(runs: Runs, data: Path) -> None:
    made = runs.run(SETTING, 1)
    add_test(data)
    tested = runs.tested(SETTING, 1)
    assert tested.valid == made.valid
    assert tested.test is not None
    (data / "frappe_x1" / "test.parquet").unlink()
    assert Runs(runs.folder, cache(partial(Task, data)), tell=lambda _: None).tested(SETTING, 1) == tested


def test_a_kept_net_scores_as_the_trained_one_did(runs: Runs) -> None:
    made = runs.run(SETTING, 1)
    assert runs.task(SETTING.schema).judge(runs.net(SETTING, 1), "stop") == made.valid


def run(auc: float, seed: int, test: float | None = None) -> Run:
    judged = None if test is None else Judged(test, 0.2, 0.6)
    return Run("wide_deep", seed, 3, 10, 1.0, 2.0, Judged(auc, 0.1, 0.5), judged)


def test_a_report_says_what_was_read() -> None:
    text = report([(SETTING, [run(0.8, 1), run(0.9, 2)])], test=False)
    assert "rebuilt train" in text
    assert "test was not opened" in text
    assert "| wide_deep | .5 | .4000 | 2 | .85000 ± .07071 |" in text
    assert "missed" not in text


def test_a_mean_on_test_below_its_bar_is_marked() -> None:
    text = report([(SETTING, [run(0.8, 1, test=0.3), run(0.9, 2, test=0.35)])], test=True)
    assert "test, read once" in text
    assert ".32500 ± .03536 (missed)" in text
    assert "| wide_deep | 1 | .30000 | .2000 | .6000 | .80000 | 3 | 1 |" in text


def test_a_row_without_a_bar_cannot_miss_it() -> None:
    text = report([(replace(SETTING, least=None), [run(0.8, 1, test=0.3)])], test=True)
    assert "| wide_deep | .5 | - | 1 | .30000 |" in text


def test_one_value_has_no_deviation() -> None:
    assert figure([0.5], places=2) == ".50"


def test_every_setting_is_one_the_zoo_takes_under_a_name_of_its_own() -> None:
    assert len(SETTINGS) == len(PLAIN) + len(WITH_HISTORY)
    for setting in SETTINGS.values():
        check_params(setting.config.architecture, setting.config.params)
        setting.config.built_recipe()
        assert setting.schema.crosses == setting.crosses


def test_every_family_has_a_row() -> None:
    assert {setting.config.architecture for setting in PLAIN} == set(ARCHITECTURES)
