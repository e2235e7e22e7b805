import math

import pytest
import torch
from torch import nn

from model.optim import RECIPES, FTRLProximal, parameter_groups
from model.row_adagrad import RowAdagrad
from model.row_adam import RowAdam
from model.row_optimizer import RowOptimizer
from model.row_sgd import RowSGD
from model.zoo import build
from tests.model.nets import SIZES


def paper_ftrl(gradients: list[float], *, alpha: float, beta: float, l1: float, l2: float) -> float:
    """Algorithm 1 of McMahan et al. 2013 for one coordinate, as printed: the weight after the last gradient."""
    z = n = 0.0

    def weight() -> float:
        if abs(z) <= l1:
            return 0.0
        return -(((beta + math.sqrt(n)) / alpha + l2) ** -1) * (z - math.copysign(l1, z))

    for g in gradients:
        w = weight()
        sigma = (math.sqrt(n + g * g) - math.sqrt(n)) / alpha
        z += g - sigma * w
        n += g * g
    return weight()


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize(("l1", "l2"), [(0.0, 0.0), (0.5, 0.0), (1.0, 0.3)])
def test_ftrl_follows_the_papers_recurrence(l1: float, l2: float, sparse: bool) -> None:
    gradients = torch.randn(40, 6, generator=torch.Generator().manual_seed(1)).double()
    table = nn.Parameter(torch.zeros(6, 1, dtype=torch.float64))
    optimizer = FTRLProximal([table], {"alpha": 0.3, "beta": 0.7, "l1": l1, "l2": l2})

    for step, gradient in enumerate(gradients):
        rows = torch.tensor([i for i in range(6) if (step + i) % 3])
        dense = torch.zeros(6, 1, dtype=torch.float64).index_copy(0, rows, gradient[rows, None])
        values = torch.sparse_coo_tensor(rows[None], gradient[rows, None], (6, 1), check_invariants=True)
        table.grad = values if sparse else dense
        optimizer.step()

    for row in range(6):
        seen = [float(gradient[row]) for step, gradient in enumerate(gradients) if (step + row) % 3]
        expected = paper_ftrl(seen, alpha=0.3, beta=0.7, l1=l1, l2=l2)
        assert table[row].item() == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("sparse", [False, True])
def test_ftrl_without_beta_leaves_a_weight_that_never_had_a_gradient_at_zero(sparse: bool) -> None:
    weight = nn.Parameter(torch.zeros(3, 1))
    optimizer = FTRLProximal([weight], {"alpha": 0.3, "beta": 0.0, "l1": 0.5})

    weight.grad = torch.tensor([[0.0], [2.0], [0.0]])
    if sparse:
        weight.grad = weight.grad.to_sparse(1)
    optimizer.step()

    assert weight[:, 0].tolist() == pytest.approx([0, paper_ftrl([2.0], alpha=0.3, beta=0.0, l1=0.5, l2=0.0), 0])


def test_l1_leaves_a_weight_exactly_zero_until_its_evidence_exceeds_it() -> None:
    weight = nn.Parameter(torch.zeros(2))
    optimizer = FTRLProximal([weight], {"l1": 1.0})

    weight.grad = torch.tensor([0.9, 1.1])
    optimizer.step()

    assert weight[0].item() == 0.0
    assert weight[1].item() < 0.0


def test_scale_makes_a_mean_loss_count_as_a_sum() -> None:
    mean, total = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    mean.grad, total.grad = torch.tensor([0.25]), torch.tensor([2.0])

    FTRLProximal([mean], {"scale": 8.0, "l1": 0.5}).step()
    FTRLProximal([total], {"l1": 0.5}).step()

    assert mean.item() == total.item() != 0.0


@pytest.mark.parametrize("sparse", [False, True])
def test_ftrl_steps_on_from_a_weight_that_it_did_not_make(sparse: bool) -> None:
    table = nn.Parameter(torch.tensor([[0.5], [-0.2], [0.0]]))
    optimizer = FTRLProximal([table], {"alpha": 0.1, "beta": 1.0, "l1": 2.0, "l2": 0.1})
    tiny = torch.full((3, 1), 1e-6)
    table.grad = torch.sparse_coo_tensor(torch.arange(3)[None], tiny, (3, 1), check_invariants=True) if sparse else tiny

    optimizer.step()

    torch.testing.assert_close(table.detach(), torch.tensor([[0.5], [-0.2], [0.0]]), rtol=1e-4, atol=1e-5)


def test_ftrls_state_is_kept_where_it_gives_the_weight_and_mended_where_the_options_changed() -> None:
    table, draw = nn.Parameter(torch.zeros(50)), torch.Generator().manual_seed(4)
    options = {"alpha": 0.1, "beta": 1.0, "l1": 1.0}
    optimizer = FTRLProximal([table], options)
    for _ in range(30):
        table.grad = torch.randn(50, generator=draw)
        optimizer.step()
    state = {kind: value.clone() for kind, value in optimizer.state[table].items()}
    assert 0 < int(table.count_nonzero()) < 50

    same = optimizer.reconciled(table.detach(), state, optimizer.param_groups[0])
    other = FTRLProximal([table], {**options, "alpha": 0.3, "l1": 0.2})
    other.state[table] = other.reconciled(table.detach(), state, other.param_groups[0])

    assert torch.equal(same["z"], state["z"])
    assert torch.equal(other.state[table]["n"], state["n"])
    before = table.detach().clone()
    table.grad = torch.zeros(50)
    other.step()
    torch.testing.assert_close(table.detach(), before)


def test_a_repeated_row_of_a_sparse_gradient_counts_as_one_summed_gradient() -> None:
    table = nn.Parameter(torch.zeros(3, 1))
    rows, values = torch.tensor([[1, 1]]), torch.tensor([[2.0], [3.0]])
    table.grad = torch.sparse_coo_tensor(rows, values, (3, 1), check_invariants=True)

    FTRLProximal([table], {"alpha": 0.1, "beta": 1.0}).step()

    assert table[1].item() == pytest.approx(paper_ftrl([5.0], alpha=0.1, beta=1.0, l1=0, l2=0))
    assert table[0].item() == 0.0


@pytest.mark.parametrize("lazy", [False, True])
def test_row_adam_equals_torchs_adam_where_every_row_has_a_gradient(lazy: bool) -> None:
    start, draw = torch.randn(5, 3), torch.Generator().manual_seed(2)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    group = {"params": [mine], "l2": 0.1, "lazy_above": 0 if lazy else 1_000}
    optimizer, reference = RowAdam([group], rate=0.01), torch.optim.Adam([theirs], lr=0.01, weight_decay=0.1)

    for _ in range(20):
        gradient = torch.randn(5, 3, generator=draw)
        mine.grad = torch.sparse_coo_tensor(torch.arange(5)[None], gradient, (5, 3), check_invariants=True)
        theirs.grad = gradient
        optimizer.step()
        reference.step()

    torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=1e-6)


def test_a_lazy_table_leaves_rows_without_a_gradient_alone() -> None:
    table = nn.Parameter(torch.ones(4, 2))
    optimizer = RowAdam([{"params": [table], "l2": 0.5, "lazy_above": 0}], rate=0.1)
    table.grad = torch.sparse_coo_tensor(torch.tensor([[2]]), torch.ones(1, 2), (4, 2), check_invariants=True)

    optimizer.step()

    assert table[[0, 1, 3]].eq(1).all()
    assert table[2].ne(1).all()


def test_row_adams_fused_pass_over_a_table_is_its_recurrence() -> None:
    table, draw = nn.Parameter(torch.randn(6, 3)), torch.Generator().manual_seed(7)
    optimizer = RowAdam([{"params": [table], "l2": 0.1}], rate=0.01)
    weight, moments = table.detach().clone(), (torch.zeros(6, 3), torch.zeros(6, 3))

    for step in range(1, 12):
        rows, values = torch.tensor([[1, 4]]), torch.randn(2, 3, generator=draw)
        table.grad = torch.sparse_coo_tensor(rows, values, (6, 3), check_invariants=True)
        optimizer.step()
        options = {**optimizer.param_groups[0], "step": step}
        dense = table.grad.to_dense()
        weight, moments = optimizer.recurrence(weight, moments, dense, options=options)  # type: ignore[assignment]

    torch.testing.assert_close(table.detach(), weight)
    torch.testing.assert_close(optimizer.state[table]["v"], moments[1])


def test_adagrad_over_rows_is_torchs_where_each_weight_has_its_accumulator() -> None:
    start, draw = torch.randn(8, 3), torch.Generator().manual_seed(8)
    mine, theirs = nn.Parameter(start.clone()), nn.Parameter(start.clone())
    optimizer = RowAdagrad([mine], {"lr": 0.1, "initial": 0.01})
    reference = torch.optim.Adagrad([theirs], lr=0.1, initial_accumulator_value=0.01)

    for _ in range(10):
        rows = torch.randperm(8, generator=draw)[:4].sort().values
        values = torch.randn(4, 3, generator=draw)
        mine.grad = torch.sparse_coo_tensor(rows[None], values, (8, 3), check_invariants=True)
        theirs.grad = mine.grad.to_dense()
        optimizer.step()
        reference.step()

    torch.testing.assert_close(mine, theirs)
    torch.testing.assert_close(optimizer.state[mine]["sum"], reference.state[theirs]["sum"])


def test_row_wise_adagrad_follows_its_recurrence_and_keeps_one_number_a_row() -> None:
    table, draw = nn.Parameter(torch.zeros(5, 4)), torch.Generator().manual_seed(9)
    optimizer = RowAdagrad([table], {"lr": 0.1, "initial": 0.5, "row_wise": True})
    weight, total = [[0.0] * 4 for _ in range(5)], [0.5] * 5

    for _ in range(7):
        values = torch.randn(2, 4, generator=draw)
        table.grad = torch.sparse_coo_tensor(torch.tensor([[0, 3]]), values, (5, 4), check_invariants=True)
        optimizer.step()
        for row, gradient in zip((0, 3), values.tolist(), strict=True):
            total[row] += sum(g * g for g in gradient) / 4
            weight[row] = [w - 0.1 * g / math.sqrt(total[row]) for w, g in zip(weight[row], gradient, strict=True)]

    torch.testing.assert_close(table.detach(), torch.tensor(weight))
    assert optimizer.state[table]["sum"].shape == (5, 1)


def test_plain_descent_moves_the_rows_that_a_gradient_names_and_no_others() -> None:
    table = nn.Parameter(torch.ones(4, 2))
    optimizer = RowSGD([{"params": [table], "l2": 0.5}], rate=0.1)
    table.grad = torch.sparse_coo_tensor(torch.tensor([[2]]), torch.full((1, 2), 3.0), (4, 2), check_invariants=True)

    optimizer.step()

    torch.testing.assert_close(table.detach()[2], torch.full((2,), 1 - 0.1 * (3 + 0.5)))
    assert table[[0, 1, 3]].eq(1).all()


@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_a_recipes_optimizers_take_each_parameter_once(recipe: str) -> None:
    net = build("wide_deep", {"dim": 4, "hidden": (8,)}, SIZES)

    optimizers = RECIPES[recipe]().optimizers(net, 64)

    taken = [id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
    assert sorted(taken) == sorted(id(p) for p in net.parameters())
    tables = {id(p) for p in parameter_groups(net)[1]}
    rows = {id(p) for one in optimizers if isinstance(one, RowOptimizer) for g in one.param_groups for p in g["params"]}
    assert tables <= rows


def test_every_parameter_of_a_net_belongs_to_exactly_one_group() -> None:
    net = build("wide_deep", {"dim": 4, "hidden": (8,)}, SIZES)

    groups = [p for group in parameter_groups(net) for p in group]

    assert {id(p) for p in groups} == {id(p) for p in net.parameters()}
    assert len(groups) == len(list(net.parameters()))
