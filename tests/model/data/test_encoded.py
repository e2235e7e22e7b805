"""The columns of a split: the batches they give, where they lie, and what becomes of them on a full disk."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.batch import Bag, Batch
from model.data.dataset import Dataset
from model.data.encoded import Encoded, Encoder
from model.data.examples import Examples, encode, rows_of
from model.fitting import fit
from model.train_config import TrainingFailed
from tests.model.worlds import dataset

FOUND = np.random.default_rng(5)


def made(count: int = 300) -> Dataset:
    """Users with histories of every length, over apps with and without tags, with positions and gaps."""
    rows = [
        {
            "user_id": f"u{FOUND.integers(12)}", "app_id": "abcd"[FOUND.integers(4)], "at": place,
            "position": place % 5, "label": int(FOUND.integers(2)), "split": "train" if place < count * 0.8 else "stop",
            "daytime": [None, "noon", "night"][FOUND.integers(3)], "age": [None, 20.0, 40.0][FOUND.integers(3)],
        }
        for place in range(count)
    ]  # fmt: skip
    return dataset(rows, timed=True)


DATA = made()
TRANSFORM = fit(DATA.schema, DATA)
FORMER = encode(TRANSFORM, DATA, rows_of(DATA, "train"))
HELD = Encoder(TRANSFORM, DATA).held("train")


def bags_of(batch: Batch) -> list[Bag]:
    sides = (batch.request, batch.app)
    return [bag for side in sides for bag in (*side.bags, *side.crosses)] + [*batch.pair.crosses]


def assert_same(one: Batch, other: Batch) -> None:
    """All that a net reads of a batch; the halves of two-sided crosses are not among it."""
    for mine, theirs in ((one.request, other.request), (one.app, other.app)):
        assert torch.equal(mine.ids, theirs.ids)
        assert torch.equal(mine.dense, theirs.dense)
    for bag, same in zip(bags_of(one), bags_of(other), strict=True):
        assert torch.equal(bag.values, same.values)
        assert torch.equal(bag.offsets, same.offsets)
    assert torch.equal(one.pair.dense, other.pair.dense)
    assert torch.equal(one.label, other.label)
    assert torch.equal(one.weight, other.weight)
    assert one.position is not None
    assert other.position is not None
    assert torch.equal(one.position, other.position)


@given(st.lists(st.integers(0, len(FORMER) - 1), max_size=40))
def test_a_batch_of_columns_is_the_batch_that_is_made_of_its_rows(rows: list[int]) -> None:
    wanted = torch.tensor(rows, dtype=torch.int64)

    assert_same(HELD.batch(wanted), FORMER.batch(wanted))


def test_there_are_bags_of_several_lengths_and_crosses_of_every_kind_to_compare() -> None:
    batch = HELD.batch(torch.arange(len(HELD)))

    assert len(set(batch.request.bags[0].lengths.tolist())) > 3
    assert [len(batch.request.crosses), len(batch.pair.crosses)] == [1, 3]


def test_columns_in_a_folder_are_those_in_memory(tmp_path: Path) -> None:
    kept = Encoder(TRANSFORM, DATA).kept("train", tmp_path / "rows", {"of": "this"})

    rows = torch.arange(len(HELD)).flip(0)
    assert_same(kept.batch(rows), HELD.batch(rows))
    assert [one.name for one in tmp_path.iterdir()] == ["rows"]


def test_pieces_make_no_difference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("model.data.dataset.PIECE", 37)
    monkeypatch.setattr("model.data.encoded.ROWS_AT_ONCE", 10)
    cut = Encoder(TRANSFORM, DATA).held("train")

    assert_same(cut.batch(torch.arange(len(cut))), HELD.batch(torch.arange(len(HELD))))


def test_an_empty_split_has_no_rows() -> None:
    none = Encoder(TRANSFORM, DATA).held("gate")

    assert len(none) == 0


def test_columns_are_used_again_for_the_same_origin_and_made_anew_for_another(tmp_path: Path) -> None:
    first = Encoder(TRANSFORM, DATA).kept("train", tmp_path / "rows", {"of": "this"})
    fewer = replace(DATA, examples=DATA.examples.head(100))

    again = Encoder(TRANSFORM, fewer).kept("train", tmp_path / "rows", {"of": "this"})
    other = Encoder(TRANSFORM, fewer).kept("train", tmp_path / "rows", {"of": "that"})

    assert [len(one) for one in (first, again, other)] == [240, 240, 100]


def test_what_a_killed_writer_left_is_written_over(tmp_path: Path) -> None:
    (tmp_path / ".rows.partial").mkdir()
    (tmp_path / ".rows.partial" / "ints").write_bytes(b"half")

    kept = Encoder(TRANSFORM, DATA).kept("train", tmp_path / "rows", {})

    assert len(kept) == len(HELD)
    assert [one.name for one in tmp_path.iterdir()] == ["rows"]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_that_names_the_folder_and_the_need(tmp_path: Path) -> None:
    message = r"disk of .*rows has no room for the encoded rows: \d+ of 240 took \d+ MiB, so about \d+ MiB are needed"

    with files_of_at_most(2000), pytest.raises(TrainingFailed, match=message):
        Encoder(TRANSFORM, DATA).kept("train", tmp_path / "rows", {})

    assert not list(tmp_path.iterdir())


def test_rows_of_a_large_cross_table_keep_all_their_bits() -> None:
    layout = replace(HELD.layout, wide=True)
    columns = dict(layout.columns(FORMER, torch.arange(5)))

    assert columns["ints"].dtype == columns["bag.0"].dtype == torch.int64


def test_columns_are_narrow() -> None:
    assert isinstance(HELD, Encoded)
    assert isinstance(FORMER, Examples)
    assert {HELD.ints.dtype, HELD.bags[0][0].dtype} == {torch.int32}
    assert DATA.examples["position"].dtype == pl.Int64


def test_kept_columns_are_mapped_so_that_no_memory_is_set_aside_for_writes(tmp_path: Path) -> None:
    made = Encoder(TRANSFORM, DATA).kept("train", tmp_path / "rows", {})
    again = Encoder(TRANSFORM, DATA).kept("train", tmp_path / "rows", {})

    maps = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    allowed = {line.split()[1] for line in maps if str(tmp_path) in line}

    assert len(made) == len(again) > 0
    assert allowed == {"r--s"}, "a private mapping that may be written counts as memory; the kernel refuses a large one"
