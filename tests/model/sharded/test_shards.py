from collections.abc import Callable
from pathlib import Path

import pytest
import torch

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


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same rows, but for the halves of crosses."""
    plain = [(batch.label, batch.weight, batch.pair.dense) for batch in (one, other)]
    sides = [(side.ids, side.dense) for batch in (one, other) for side in (batch.request, batch.app)]
    pairs = [*zip(*plain, strict=True), *zip(*sides[:2], strict=True), *zip(*sides[2:], strict=True)][:3]
    pairs += list(zip((*sides[0], *sides[1]), (*sides[2], *sides[3]), strict=True))
    bags = list(zip(bags_of(one), bags_of(other), strict=True))
    return all(torch.equal(a, b) for a, b in pairs) and all(
        torch.equal(a.values, b.values) and torch.equal(a.offsets, b.offsets) for a, b in bags
    )


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
    batch = selected(random_batch(7), torch.arange(count))

    assert same(batch_of(frame_of(batch), Widths.of(batch)), batch)


def test_parts_of_a_batch_joined_are_the_batch() -> None:
    batch = random_batch(7)

    assert same(joined([selected(batch, torch.arange(0, 3)), selected(batch, torch.arange(3, 7))]), batch)


def test_every_row_lies_in_one_shard_and_shards_are_of_a_size(shards: Shards, data: Dataset) -> None:
    whole = encode(shards.transform, data, rows_of(data, "train"))

    read = joined([shards.read("train", shard) for shard in range(3)])

    def lines(batch: Batch) -> list[list[float]]:
        return sorted(
            [*ids, label] for ids, label in zip(batch.request.ids.tolist(), batch.label.tolist(), strict=True)
        )

    assert lines(read) == lines(whole.batch(torch.arange(len(whole))))
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
