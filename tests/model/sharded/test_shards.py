from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from model.batch import Bag, Batch
from model.data.dataset import Dataset
from model.data.examples import encode, rows_of
from model.sharded.errors import ShardsUnusable
from model.sharded.frames import Widths, batch_of, frame_of, joined, selected
from model.sharded.reading import Part, Reader
from model.sharded.shards import SHARDS, Shards, write_shards
from tests.model.nets import random_batch
from tests.model.test_training import learnable


def bags_of(batch: Batch) -> list[Bag]:
    sides = (batch.request, batch.app)
    return [bag for side in sides for bag in (*side.bags, *side.crosses)] + list(batch.pair.crosses)


def tensors_of(batch: Batch) -> list[Tensor]:
    """All that a batch holds but the halves of crosses; an unknown position is 0."""
    position = torch.zeros(len(batch), dtype=torch.int64) if batch.position is None else batch.position
    sides = [tensor for side in (batch.request, batch.app) for tensor in (side.ids, side.dense)]
    bags = [tensor for bag in bags_of(batch) for tensor in (bag.values, bag.offsets)]
    return [batch.label, batch.weight, position, batch.pair.dense, *sides, *bags]


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same rows, but for the halves of crosses."""
    return all(torch.equal(a, b) for a, b in zip(tensors_of(one), tensors_of(other), strict=True))


@pytest.fixture(scope="module")
def data() -> Dataset:
    return learnable(200)


@pytest.fixture
def shards(data: Dataset, tmp_path: Path) -> Shards:
    return write_shards(data, tmp_path / "shards", count=3)


def rows(parts: list[Part]) -> list[Batch]:
    return [selected(part.batch, torch.arange(part.counted)) for part in parts]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_examples_come_back_from_a_frame_as_they_were(count: int) -> None:
    positioned = replace(random_batch(7), position=torch.arange(7))
    batch = selected(positioned, torch.arange(count))

    assert same(batch_of(frame_of(batch), Widths.of(batch)), batch)


def test_parts_of_a_batch_joined_are_the_batch() -> None:
    batch = random_batch(7)

    assert same(joined([selected(batch, torch.arange(0, 3)), selected(batch, torch.arange(3, 7))]), batch)


def test_every_row_lies_in_one_shard_and_shards_are_of_a_size(shards: Shards, data: Dataset) -> None:
    whole = encode(shards.transform, data, rows_of(data, "train"))

    read = [shards.read("train", shard) for shard in range(3)]

    assert lines(read) == lines([whole.batch(torch.arange(len(whole)))])
    assert sorted(shards.contents.rows["train"]) == [46, 47, 47]


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_ranks_take_as_many_steps_and_between_them_see_every_row_once(shards: Shards, ranks: int) -> None:
    readers = [Reader(shards, "train", rank, ranks, size=16) for rank in range(ranks)]

    parts = [list(reader.parts((1, 1))) for reader in readers]

    assert len({len(of_rank) for of_rank in parts}) == 1
    assert sum(part.counted for of_rank in parts for part in of_rank) == 140
    for step in zip(*parts, strict=True):
        assert {part.total for part in step} == {sum(part.counted for part in step)}
        assert all(part.batch.weight[part.counted :].sum() == 0 for part in step)
        assert all(len(part.batch) >= 2 for part in step)


@pytest.mark.parametrize("ranks", [1, 2, 3, 4])
def test_ranks_with_more_rows_than_others_have_more_in_each_step_so_that_none_is_done_before_the_last(
    data: Dataset, tmp_path: Path, ranks: int
) -> None:
    shards = write_shards(data, tmp_path / "shards", count=5)

    for rank in range(ranks):
        reader = Reader(shards, "train", rank, ranks, size=16)
        counted = [part.counted for part in reader.parts((1, 1))]
        assert min(counted) > 0
        assert max(counted) - min(counted) <= 1
        assert all(abs(reader.total(step) - 140 / 9) <= ranks for step in range(9))


def lines(batches: list[Batch]) -> list[list[float]]:
    """The rows of batches, told apart by all that is in them, in an order of their own."""
    return sorted(
        [*request, *app, *dense, label]
        for batch in batches
        for request, app, dense, label in zip(
            batch.request.ids.tolist(),
            batch.app.ids.tolist(),
            batch.pair.dense.tolist(),
            batch.label.tolist(),
            strict=True,
        )
    )


@pytest.mark.parametrize(("before", "after"), [(1, 2), (2, 1), (2, 3), (3, 2)])
@pytest.mark.parametrize("steps", [0, 1, 5, 8])
def test_ranks_of_another_number_read_what_is_left_of_an_epoch_and_no_row_twice(
    shards: Shards, before: int, after: int, steps: int
) -> None:
    former = [Reader(shards, "train", rank, before, size=16) for rank in range(before)]
    read = [batch for reader in former for batch in rows(list(reader.parts((1, 1)))[:steps])]
    done = former[0].after((1, 1), steps)

    latter = [Reader(shards, "train", rank, after, size=16, done=done) for rank in range(after)]
    rest = [batch for reader in latter for batch in rows(list(reader.parts((1, 1))))]

    whole = [shards.read("train", shard) for shard in range(3)]
    assert lines([*read, *rest]) == lines(whole)
    assert {reader.after((1, 1), reader.steps) for reader in latter} == {shards.contents.rows["train"]}


def test_an_epoch_has_an_order_of_its_own_that_can_be_drawn_again(shards: Shards) -> None:
    reader = Reader(shards, "train", 0, 2, size=16)

    first, again, second = (rows(list(reader.parts(order))) for order in ((1, 1), (1, 1), (1, 2)))

    assert same(joined(first), joined(again))
    assert not same(joined(first), joined(second))


@pytest.mark.parametrize("skip", [1, 5, 100])
def test_steps_that_were_done_are_skipped_and_the_rest_is_as_it_would_have_been(shards: Shards, skip: int) -> None:
    reader = Reader(shards, "train", 1, 2, size=16)

    rest = list(reader.parts((1, 1), skip=skip))

    whole = list(reader.parts((1, 1)))[skip:]
    assert [part.counted for part in rest] == [part.counted for part in whole]
    assert all(same(one, other) for one, other in zip(rows(rest), rows(whole), strict=True))


def test_fewer_shards_than_ranks_are_refused_with_what_to_run(shards: Shards) -> None:
    with pytest.raises(ShardsUnusable, match=r"3 shards for 4 ranks.*--count 16"):
        shards.mine(0, 4)


def test_more_shards_than_rows_are_refused(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(ShardsUnusable, match="the stop split has 60 rows for 100 shards"):
        write_shards(data, tmp_path / "shards", count=100)


def test_a_count_that_is_refused_leaves_the_shards_that_there_were(shards: Shards, data: Dataset) -> None:
    with pytest.raises(ShardsUnusable):
        write_shards(data, shards.folder, count=100)

    assert Shards.open(shards.folder) == shards


def test_nothing_but_shards_is_left_in_their_folder_and_the_data_is_left_as_it_was(
    data: Dataset, tmp_path: Path
) -> None:
    before = dict(vars(data))

    shards = write_shards(data, tmp_path / "shards", count=2)

    names = {one.name for one in shards.folder.iterdir()}
    assert names == {"train", "stop", SHARDS, "schema.yaml", "transform.json", "transform.safetensors"}
    assert vars(data) == before


def test_where_there_are_no_shards_it_says_how_they_are_made(tmp_path: Path) -> None:
    with pytest.raises(ShardsUnusable, match="run `appshelf shard`"):
        Shards.open(tmp_path)


def cut(folder: Path) -> None:
    next((folder / "train" / "00001").iterdir()).write_bytes(b"PAR1")


def emptied(folder: Path) -> None:
    for file in (folder / "train" / "00001").iterdir():
        file.unlink()


@pytest.mark.parametrize("damage", [cut, emptied])
def test_a_damaged_shard_is_named(shards: Shards, damage: Callable[[Path], None]) -> None:
    damage(shards.folder)

    with pytest.raises(ShardsUnusable, match=r"train/00001.*appshelf shard"):
        shards.read("train", 1)


def test_a_damaged_list_of_contents_is_named(shards: Shards) -> None:
    (shards.folder / SHARDS).write_text("{}", encoding="utf-8")

    with pytest.raises(ShardsUnusable, match=SHARDS):
        Shards.open(shards.folder)
