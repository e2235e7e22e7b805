import pytest
import torch

from model.batch import Bag, Side


def bag_of(*lists: list[int]) -> Bag:
    lengths = torch.tensor([len(part) for part in lists])
    return Bag(torch.tensor([i for part in lists for i in part], dtype=torch.int64), lengths.cumsum(0) - lengths)


def lists_of(bag: Bag) -> list[list[int]]:
    return [part.tolist() for part in bag.values.split(bag.lengths.tolist())]  # type: ignore[no-untyped-call]  # torch


def test_selecting_bags_takes_them_whole_and_in_the_order_asked() -> None:
    bag = bag_of([1, 2], [], [3], [4, 5, 6])

    assert lists_of(bag.select(torch.tensor([3, 1, 0, 0]))) == [[4, 5, 6], [], [1, 2], [1, 2]]


def test_ids_are_never_carried_as_floats() -> None:
    with pytest.raises(TypeError, match="int64"):
        Side(torch.zeros(1, 1), torch.zeros(1, 0))
    with pytest.raises(TypeError, match="int64"):
        Bag(torch.zeros(1), torch.zeros(1, dtype=torch.int64))


def test_an_id_above_two_to_the_24_survives_selection() -> None:
    side = Side(torch.tensor([[16_777_217]]), torch.zeros(1, 0))

    assert side.select(torch.tensor([0])).ids.item() == 16_777_217
