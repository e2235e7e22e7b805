import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest

from model.data.dataset import HISTORY, Dataset, DatasetError, read, user_histories, write
from model.data.prepare import prepare
from model.schema import Kind, LogSpec, Source
from tests.model.data.logs import field, raw_log, row, schema


@pytest.fixture
def dataset() -> Dataset:
    given = [row(number, at=number, battery=None) for number in range(60)]
    using = schema(field("battery", Source.CONTEXT, Kind.CONTINUOUS), log=LogSpec(at="at"))
    return prepare(raw_log(given), using)[0]


def test_what_is_written_is_read_back_equal(dataset: Dataset, tmp_path: Path) -> None:
    write(dataset, tmp_path / "data")
    again = read(tmp_path / "data")
    assert (again.schema, again.facts) == (dataset.schema, dataset.facts)
    assert again.examples.equals(dataset.examples)
    assert again.apps.equals(dataset.apps)
    assert again.users.equals(dataset.users)


def test_writing_again_replaces_and_leaves_nothing_beside(dataset: Dataset, tmp_path: Path) -> None:
    write(dataset, tmp_path / "data")
    write(replace(dataset, facts=replace(dataset.facts, source="second")), tmp_path / "data")
    assert read(tmp_path / "data").facts.source == "second"
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize("renames", [0, 1], ids=["before the old is moved away", "before the new is moved in"])
def test_a_write_cut_short_leaves_the_old_data_and_the_next_one_is_clean(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    write(dataset, tmp_path / "data")
    done: list[Path] = []
    rename = Path.rename

    def die(self: Path, target: Path) -> Path:
        if len(done) == renames:
            raise KeyboardInterrupt
        done.append(self)
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            write(replace(dataset, facts=replace(dataset.facts, source="second")), tmp_path / "data")
    assert read(tmp_path / "data").facts.source == "test"
    write(replace(dataset, facts=replace(dataset.facts, source="third")), tmp_path / "data")
    assert read(tmp_path / "data").facts.source == "third"
    assert [entry.name for entry in tmp_path.iterdir()] == ["data"]


def test_no_data_is_an_error_that_says_what_to_run(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no data yet; run `appshelf import FORMAT PATH`"):
        read(tmp_path / "data")


@pytest.mark.parametrize("name", ["examples.parquet", "apps.parquet", "users.parquet", "schema.yaml", "facts.json"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_a_damaged_file_is_an_error_that_says_what_to_run(
    dataset: Dataset, tmp_path: Path, name: str, damage: str
) -> None:
    write(dataset, tmp_path / "data")
    path = tmp_path / "data" / name
    path.unlink() if damage == "gone" else path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(DatasetError, match=r"is damaged \(.+\); run `appshelf import FORMAT PATH` again"):
        read(tmp_path / "data")


def test_facts_of_another_shape_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    write(dataset, tmp_path / "data")
    path = tmp_path / "data" / "facts.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"timed": "perhaps"}))
    with pytest.raises(DatasetError, match="is damaged"):
        read(tmp_path / "data")


def test_frames_that_lack_a_column_of_the_schema_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    write(replace(dataset, examples=dataset.examples.drop("daytime")), tmp_path / "data")
    with pytest.raises(DatasetError, match=r"lacks examples.daytime \(String\)"):
        read(tmp_path / "data")


def test_a_history_counts_positives_and_what_was_installed_most_used_first(dataset: Dataset) -> None:
    examples = dataset.examples.head(6).with_columns(
        pl.Series("user_id", list("uuuuuv")),
        pl.Series("app_id", list("abbcda")),
        pl.Series("label", [1, 1, 1, 1, 0, 0], dtype=pl.Int8),
        pl.Series("split", ["train", "train", "gate", "train", "train", "train"]),
    )
    users = pl.DataFrame({"user_id": ["u", "w"], "installed": [["c", "z"], ["y"]]})
    given = replace(dataset, examples=examples, users=users)
    histories = user_histories(given)
    assert histories == {"u": {"b": 2, "c": 2, "a": 1, "z": 1}, "w": {"y": 1}}
    assert list(histories["u"]) == ["b", "c", "a", "z"]
    untimed = user_histories(replace(given, facts=replace(dataset.facts, timed=False)))
    assert list(untimed["u"].items()) == [("c", 2), ("a", 1), ("b", 1), ("z", 1)]


def revised(dataset: Dataset, *, revision: int = 0) -> Dataset:
    """The dataset as if its rows were the service's own, the first of them scored with an app as it was before."""
    nothing = pl.lit([], dtype=HISTORY).alias("history")
    logged = [pl.lit(0.0).alias("uses"), pl.lit(0.0).alias("others")]
    first = pl.when(pl.int_range(pl.len()) == 0).then(pl.lit(revision, pl.Int64)).alias("app_revision")
    examples = dataset.examples.with_columns(nothing, *logged, first)
    return replace(dataset, examples=examples, revisions=dataset.apps.select("app_id").head(1))


def test_revisions_and_what_was_logged_are_read_back(dataset: Dataset, tmp_path: Path) -> None:
    written = revised(dataset)
    write(written, tmp_path / "data")
    again = read(tmp_path / "data")
    assert again.examples.equals(written.examples)
    assert again.revisions is not None
    assert again.revisions.to_dicts() == [{"app_id": dataset.apps["app_id"][0]}]


def test_a_row_points_to_its_apps_revision_or_to_the_app_as_it_is(dataset: Dataset) -> None:
    made = revised(dataset)
    rows = made.app_rows(made.examples)
    assert rows[0] == len(made.apps)
    assert made.apps["app_id"].gather(rows[1:]).to_list() == made.examples["app_id"][1:].to_list()
    assert len(made.scored_apps) == len(made.apps) + 1


@pytest.mark.parametrize("damage", ["the file is gone", "a row points past it"])
def test_rows_of_revisions_that_are_not_there_are_refused(dataset: Dataset, tmp_path: Path, damage: str) -> None:
    write(revised(dataset, revision=int(damage.startswith("a row"))), tmp_path / "data")
    if damage.startswith("the file"):
        (tmp_path / "data" / "revisions.parquet").unlink()
    with pytest.raises(DatasetError, match="lacks revisions; run"):
        read(tmp_path / "data")


def test_revisions_without_a_field_are_refused(dataset: Dataset, tmp_path: Path) -> None:
    made = revised(dataset)
    write(replace(made, revisions=pl.DataFrame({"other": ["a"]})), tmp_path / "data")
    with pytest.raises(DatasetError, match=r"lacks revisions.app_id \(String\)"):
        read(tmp_path / "data")
