import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import Bag
from model.lookup import in_order, looked_up, pooled, row_sums, rows_of, sparse_rows, summed
from model.row_optimizer import rows_and_values
from tests.model.nets import random_bag

ROWS, WIDTH = 40, 5


def table() -> Tensor:
    return torch.randn(ROWS, WIDTH, generator=torch.Generator().manual_seed(1)).requires_grad_()


def gradients(of: Tensor, out: Tensor) -> Tensor:
    """The dense gradient of a weighted sum of `out`."""
    (found,) = torch.autograd.grad((out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum(), of)
    return found.to_dense()


def test_rows_looked_up_and_their_gradients_are_those_of_torchs_embedding() -> None:
    weights, ids = table(), torch.randint(0, ROWS, (30, 4), generator=torch.Generator().manual_seed(2))

    mine, theirs = looked_up(weights, ids), F.embedding(ids, weights)

    assert torch.equal(mine, theirs)
    torch.testing.assert_close(gradients(weights, mine), gradients(weights, theirs))


def test_looking_up_no_rows_leaves_a_gradient_that_names_none() -> None:
    weights = table()

    (gradient,) = torch.autograd.grad(looked_up(weights, torch.empty(0, dtype=torch.int64)).sum(), weights)

    assert gradient.is_sparse
    assert gradient.shape == (ROWS, WIDTH)
    assert len(gradient.coalesce().values()) == 0


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_pooled_rows_and_their_gradients_are_those_of_torchs_embedding_bag(mode: str) -> None:
    weights, bag = table(), random_bag(25, ROWS, torch.Generator().manual_seed(3))

    mine = pooled(bag, weights, mode=mode)
    theirs = F.embedding_bag(bag.values, weights, bag.offsets, mode=mode)

    assert torch.equal(mine, theirs)
    torch.testing.assert_close(gradients(weights, mine), gradients(weights, theirs))


@pytest.mark.parametrize("size", [ROWS, 10_000])
def test_summed_weights_and_their_gradients_are_a_sum_over_each_rows_values(size: int) -> None:
    draw = torch.Generator().manual_seed(4)
    weights, into = torch.randn(size, 1, generator=draw).requires_grad_(), torch.randn(9, generator=draw)
    values, rows = torch.randint(0, ROWS, (60,), generator=draw), torch.randint(0, 9, (60,), generator=draw)

    mine = summed(weights, values, rows, into=into)
    theirs = torch.stack([into[row] + weights[values[rows == row], 0].sum() for row in range(9)])

    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(gradients(weights, mine), gradients(weights, theirs))


@pytest.mark.parametrize("count", [0, 1, 5000])
def test_ids_are_put_in_order_as_by_a_stable_sort(count: int) -> None:
    ids = torch.randint(0, 2**40, (count,), generator=torch.Generator().manual_seed(7)) >> torch.arange(count) % 41

    for mine, theirs in zip(in_order(ids), ids.sort(stable=True), strict=True):
        assert torch.equal(mine, theirs)


def test_a_gradient_names_each_row_once_in_rising_order() -> None:
    ids = torch.tensor([7, 3, 7, 0])

    gradient = sparse_rows(*row_sums(torch.ones(4, 2), ids), 9)

    assert gradient.is_coalesced()
    assert gradient.indices().tolist() == [[0, 3, 7]]
    assert gradient.values().tolist() == [[1, 1], [1, 1], [2, 2]]


def test_a_table_that_is_looked_up_twice_has_one_gradient() -> None:
    weights = table()
    total = looked_up(weights, torch.tensor([1, 1, 8])).sum() + looked_up(weights, torch.tensor([8, 2])).sum()
    total.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped

    assert weights.grad is not None
    rows, values = rows_and_values(weights.grad)

    assert rows.tolist() == [1, 2, 8]
    assert values[:, 0].tolist() == [2, 1, 2]


def test_nothing_is_recorded_where_no_gradient_is_asked_for() -> None:
    with torch.no_grad():
        assert not looked_up(table(), torch.tensor([1])).requires_grad
        assert not pooled(Bag(torch.tensor([1]), torch.tensor([0])), table(), mode="sum").requires_grad


def test_each_value_of_a_bag_knows_its_row() -> None:
    assert rows_of(Bag(torch.tensor([5, 6, 7]), torch.tensor([0, 0, 2]))).tolist() == [1, 1, 2]
    assert rows_of(Bag(torch.tensor([5, 6]), torch.tensor([0, 1]))).tolist() == [0, 1]
