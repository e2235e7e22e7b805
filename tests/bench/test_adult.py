import gzip
from pathlib import Path

import polars as pl
import pytest

from bench.adult import COLUMNS, CONFIGS, CUTS, LEAST, Scored, dataset, read, report, run

PERSON = "39, State-gov, 77516, Bachelors, 13, Never-married, Adm-clerical, Not-in-family, White, Male, 0, 0"


def lines(count: int, *, dot: str = "") -> str:
    people = ((40 if place % 3 else 60, ">50K" if place % 3 == 0 else "<=50K") for place in range(count))
    return "\n".join(f"{PERSON}, {hours}, ?, {income}{dot}" for hours, income in people)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "adult").mkdir()
    (tmp_path / "adult" / "adult.data.gz").write_bytes(gzip.compress((lines(600) + "\n\n").encode()))
    text = "|1x3 Cross validator\n" + lines(90, dot=".") + "\n\n"
    (tmp_path / "adult" / "adult.test.gz").write_bytes(gzip.compress(text.encode()))
    return tmp_path


def test_the_files_comment_dots_and_blank_lines_are_dropped(folder: Path) -> None:
    rows = read(folder / "adult" / "adult.test.gz")
    assert rows.shape == (90, len(COLUMNS))
    assert set(rows["income"]) == {">50K", "<=50K"}
    assert rows["native_country"].null_count() == 90


def test_numbers_also_come_as_ranges_and_the_survey_weight_not_at_all(folder: Path) -> None:
    rows = dataset(folder).examples
    assert {f"{name}_range" for name in CUTS} <= set(rows.columns)
    assert "fnlwgt" not in rows.columns
    assert rows["age_range"].unique().to_list() == ["5"]


def test_the_test_file_stands_in_the_gate_only_when_asked(folder: Path) -> None:
    learned, judged = dataset(folder), dataset(folder, test=True)
    assert learned.facts.counts["gate"] not in (0, 90)
    assert judged.facts.counts["gate"] == 90
    train = [made.examples.filter(pl.col("split") == "train").drop("user_id") for made in (learned, judged)]
    assert train[0].equals(train[1])


def test_what_is_plain_to_see_is_learned(folder: Path) -> None:
    found = run("wide", 1, dataset(folder))
    assert found.auc == 1.0
    assert 0.5 < found.accuracy <= 1.0


def test_a_mean_below_the_bar_is_marked_and_only_on_test() -> None:
    found = [Scored(name, 1, 3, LEAST - 0.01, 0.9, 0.3) for name in CONFIGS]
    assert "| wide_deep | .844 | .855 | 1 | .8450 (missed) |" in report(found, test=True)
    assert "missed" not in report(found, test=False)
