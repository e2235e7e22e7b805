"""The Frappe import, on an invented folder of the same shape, and on the real one where it is at hand."""

import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.data import frappe
from model.data.dataset import Dataset, user_histories
from model.data.report import ImportRefused
from model.schema import dump_schema, parse_schema

REAL = Path(__file__).parents[3].parent / "shared" / "data"
CONTEXT = {"daytime": "dusk", "weekday": "day1", "isweekend": "no", "homework": "x", "weather": "dry", "country": "Oz"}
META = {"category": "Toys", "downloads": "1 - 5", "developer": "Ann", "language": "en"}


def part(count: int, *, shift: int) -> pl.DataFrame:
    """Rows whose positives are users on apps 0 to 3, negatives on 4 to 7 with the cost of a positive."""
    rows: list[dict[str, Any]] = []
    for number in range(count):
        label = int(number % 3 == 0)
        item = number * 5 % 4 + (0 if label else 4)
        rows.append({"label": label, "user": number % 6 + shift, "item": item, "city": 3, "cost": "paid"} | CONTEXT)
    integers, texts = pl.col("user", "item", "city").cast(pl.Int32), pl.col("cost", *CONTEXT).cast(pl.Categorical)
    return pl.DataFrame(rows).with_columns(pl.col("label").cast(pl.Int8), integers, texts)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of Frappe's shape, without the files that the import must not open."""
    (tmp_path / "frappe_x1").mkdir()
    train = part(90, shift=0).with_columns(pl.lit("raw_positive", pl.Categorical).alias("origin"))
    train.write_parquet(tmp_path / "frappe_x1" / "train_rebuilt.parquet")
    part(60, shift=1).write_parquet(tmp_path / "frappe_x1" / "valid.parquet")
    prices = ["Free", "Free", "$1", "$1", "Free", "$2", "unknown", "unknown"]
    apps = [
        {"item": n, "package": f"org.{n}", "price": price, "rating": "4.5"} | META for n, price in enumerate(prices)
    ]
    for app in apps[6:]:
        app.update(dict.fromkeys(app.keys() - {"item"}, "unknown"))
    (tmp_path / "frappe").mkdir()
    text = pl.DataFrame(apps).write_csv(separator="\t").encode()
    (tmp_path / "frappe" / "meta.csv.gz").write_bytes(gzip.compress(text))
    return tmp_path


@pytest.fixture
def dataset(folder: Path) -> Dataset:
    return frappe.load(folder)[0]


def test_neither_the_test_part_nor_the_raw_log_is_opened(folder: Path) -> None:
    for name in ("frappe_x1/test.parquet", "frappe_x1/test.csv.gz", "frappe_x1/test.libsvm.gz", "frappe/frappe.csv.gz"):
        (folder / name).mkdir()  # to open it would raise
    assert frappe.load(folder)[1].fault_count == 0


def test_train_stays_whole_and_valid_is_halved(dataset: Dataset) -> None:
    counts = dataset.facts.counts
    assert counts["train"] == 90
    assert counts["stop"] + counts["gate"] == 60
    assert min(counts["stop"], counts["gate"]) > 0


def test_ids_are_the_raw_user_and_the_package_or_the_item(dataset: Dataset) -> None:
    assert set(dataset.users["user_id"]) == {str(number) for number in range(7)}
    assert dataset.apps["app_id"].to_list() == [*(f"org.{n}" for n in range(6)), "frappe-6", "frappe-7"]


def test_cost_is_the_apps_own_never_its_rows(dataset: Dataset) -> None:
    assert "cost" not in dataset.examples.columns
    own, priced, missing = ["paid"] * 4, ["free", "paid"], [None, None]
    assert dataset.apps["cost"].to_list() == own + priced + missing


def test_unknown_metadata_is_missing(dataset: Dataset) -> None:
    features = dataset.apps.select(*frappe.METADATA, "rating")
    assert features.row(0) == ("Toys", "1 - 5", "Ann", "en", 4.5)
    assert features.row(6) == (None,) * 5


def test_contexts_are_texts_and_origin_no_column(dataset: Dataset) -> None:
    assert set(dataset.examples.columns) == {"user_id", "app_id", "label", "split", *frappe.CONTEXT}
    assert set(dataset.examples.dtypes) == {pl.String(), pl.Int8()}
    assert set(dataset.examples["city"]) == {"3"}


def test_facts_name_the_rule_and_its_rate(dataset: Dataset) -> None:
    facts = dataset.facts
    positives = dataset.examples.filter(label=1)
    used = {user: set(rows["app_id"]) for (user,), rows in positives.group_by("user_id")}
    possible = sum(8 - len(used[user]) for user in positives.filter(split="train")["user_id"])
    assert (facts.source, facts.timed, facts.negatives) == ("frappe", False, "unused")
    assert facts.sampling_rate == pytest.approx(60 / possible)


def test_history_is_the_train_positives_alone(dataset: Dataset) -> None:
    histories = user_histories(dataset)
    train = dataset.examples.filter(label=1, split="train")
    assert sum(sum(history.values()) for history in histories.values()) == train.height
    assert "6" not in histories


@pytest.mark.parametrize("history", [False, True])
def test_the_schema_survives_its_file(history: bool) -> None:
    made = frappe.schema(history=history)
    assert parse_schema(dump_schema(made)) == made
    assert {"in_context.city", "similar"} <= {one.measure for one in made.fields} or not history


def test_a_folder_without_frappe_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match=r"train_rebuilt.parquet cannot be read: No such file"):
        frappe.load(tmp_path)


def test_files_of_another_shape_are_refused(folder: Path) -> None:
    pl.DataFrame({"label": [1]}).write_parquet(folder / "frappe_x1" / "valid.parquet")
    with pytest.raises(ImportRefused, match="does not hold Frappe as expected"):
        frappe.load(folder)


@pytest.mark.skipif(not REAL.exists(), reason="no ../shared/data on this machine")
def test_the_real_files_give_the_numbers_of_their_readme() -> None:
    dataset, report = frappe.load(REAL)
    assert report.fault_count == 0
    assert (dataset.facts.counts["train"], dataset.facts.counts["train_positive"]) == (202_027, 67_604)
    assert dataset.facts.counts["stop"] + dataset.facts.counts["gate"] == 57_722
    assert dataset.apps.height == 4082
    assert dataset.apps["app_id"].str.starts_with("frappe-").sum() == 550
