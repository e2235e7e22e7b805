"""A log gone through a piece at a time, its events in files: what is learned of it is what all of it at once tells."""

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.dataset import Dataset, read, write
from model.data.history import History, history_of
from model.data.past import Past, past_of
from model.data.stored_past import StoredPast, keep_past
from model.data.training_rows import TrainingRows
from model.fitting import fit
from model.growth import grow
from model.schema import FeatureSchema
from model.train_config import TrainingFailed
from model.transforms import Transform
from tests.model.data.test_encoded import files_of_at_most
from tests.model.worlds import dataset

ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "user_id": st.sampled_from("uvw"),
            "app_id": st.sampled_from("abcd"),
            "label": st.integers(0, 1),
            "split": st.sampled_from(["train", "train", "stop"]),
            "at": st.integers(0, 20),
        }
    ),
    min_size=1,
    max_size=25,
)
INSTALLED = st.dictionaries(st.sampled_from("uvwx"), st.lists(st.sampled_from("abe"), unique=True, max_size=3))


def world(rows: list[dict[str, object]], installed: dict[str, list[str]], *, timed: bool) -> Dataset:
    made = dataset(rows, timed=timed)
    users = pl.DataFrame(
        {"user_id": list("uvwx"), "installed": [installed.get(user, []) for user in "uvwx"], "age": [1.0] * 4},
        schema_overrides={"installed": pl.List(pl.String)},
    )
    return Dataset(made.schema, made.examples, made.apps, users, made.facts)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("past")


@pytest.mark.parametrize("timed", [True, False])
@settings(max_examples=40, deadline=None)
@given(rows=ROWS, installed=INSTALLED)
def test_a_past_in_files_tells_what_one_in_memory_does(
    rows: list[dict[str, object]], installed: dict[str, list[str]], timed: bool, folder: Path
) -> None:
    held = world(rows, installed, timed=timed)
    stored = world(rows, installed, timed=timed)
    keep_past(stored, folder / "events")

    one, other = (history_of(made, made.examples, max_values=3) for made in (held, stored))

    assert one.installed.to_list() == other.installed.to_list()
    assert one.uses.tolist() == other.uses.tolist()
    assert one.others.tolist() == other.others.tolist()
    assert past_of(held).audience.rows() == past_of(stored).audience.rows()


def big(count: int = 400) -> Dataset:
    """Some hundred rows of a timed log, with values that are missing."""
    rng = np.random.default_rng(8)
    rows = [
        {
            "user_id": f"u{rng.integers(30)}", "app_id": "abcd"[rng.integers(4)], "label": int(rng.integers(2)),
            "split": "train" if place < count * 0.7 else "stop", "at": place,
            "age": [None, 1.0, 5.0, 9.0][rng.integers(4)], "daytime": [None, "noon", "night"][rng.integers(3)],
        }
        for place in range(count)
    ]  # fmt: skip
    return dataset(rows, timed=True)


def cut_small(patch: pytest.MonkeyPatch) -> None:
    """Every size that is to bound memory, far below that of the test's log."""
    patch.setattr("model.data.dataset.PIECE", 29)
    patch.setattr("model.data.stored_past.PIECE", 31)
    patch.setattr(StoredPast, "at_once", 40)
    patch.setattr("model.data.stored_past.GROUPED_AT_ONCE", 25)
    patch.setattr("model.data.training_rows.KEPT_ROWS", 0)
    patch.setattr("model.data.training_rows.PAIRS_AT_ONCE", 20)
    patch.setattr("model.data.training_rows.KEYS_AT_ONCE", 7)


def state(transform: Transform) -> tuple[object, dict[str, list[object]]]:
    texts, arrays = transform.to_state()
    return texts, {name: array.tolist() for name, array in arrays.items()}


def test_a_transform_fitted_in_pieces_is_that_of_the_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = big()
    whole, later = fit(data.schema, data), big(430)
    grown = grow(whole, data.schema, later, compact=True)
    write(data, tmp_path / "data")
    write(later, tmp_path / "later")

    cut_small(monkeypatch)
    stored, stored_later = read(tmp_path / "data"), read(tmp_path / "later")
    keep_past(stored, tmp_path / "events")
    keep_past(stored_later, tmp_path / "later events")

    assert state(fit(data.schema, stored)) == state(whole)
    assert state(grow(whole, data.schema, stored_later, compact=True)) == state(grown)


@pytest.mark.parametrize("kind", [Past, StoredPast])
def test_rows_are_cut_where_their_users_have_many_events(
    kind: type[Past], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = big()
    past = StoredPast(data, tmp_path / "events") if kind is StoredPast else Past(data)
    monkeypatch.setattr(kind, "at_once", 100)
    rows = data.examples.head(200)

    pieces = list(past.cut(rows))

    of_user = dict(past.events.group_by("user_id").len().iter_rows())
    events = [sum(of_user[user] for user in piece["user_id"]) for piece in pieces]
    assert len(pieces) > 5
    assert max(events) < 130
    assert pl.concat(pieces).equals(rows)


def test_nobody_has_no_past(tmp_path: Path) -> None:
    data = dataset([{"user_id": "u", "app_id": "a", "label": 0, "at": 3}], timed=True)
    past = StoredPast(data, tmp_path / "events")

    assert len(past.events_of(pl.Series(["u"]))) == 0
    asked = pl.DataFrame({"app_id": ["a"], "at": [datetime(2026, 1, 1, tzinfo=UTC)]})
    assert past.audience_before(asked).tolist() == [0.0]
    assert len(past.audience) == 0
    assert isinstance(past, Past)


def test_the_training_split_is_gone_through_once_for_each_short_log(monkeypatch: pytest.MonkeyPatch) -> None:
    data, asked = big(), list[int]()
    rows = TrainingRows(data.schema, data)

    def history(_: FeatureSchema, whole: Dataset, part: pl.DataFrame) -> History:
        asked.append(len(part))
        return history_of(whole, part, max_values=5)

    monkeypatch.setattr("model.data.training_rows.history_for", history)

    for _ in range(3):
        assert sum(len(part) for part, _ in rows.pieces()) == 280

    assert asked == [280]


def test_a_disk_without_room_for_the_events_is_an_error_that_names_the_folder(tmp_path: Path) -> None:
    data = world([{"user_id": "u", "app_id": "a", "label": 1, "at": at} for at in range(50)], {}, timed=True)

    with files_of_at_most(300), pytest.raises(TrainingFailed, match=r"disk of .*events has no room .* make room"):
        StoredPast(data, tmp_path / "events").events_of(pl.Series(["u"]))
