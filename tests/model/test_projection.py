from collections.abc import Callable, Mapping

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from model.batch import FieldSize, Side, SideSizes
from model.layers import FieldEmbedding
from model.projection import cut, worthwhile
from tests.model.nets import random_bag

ROWS, HIDDEN = 200, 24
SIZES = SideSizes(
    ids=(
        FieldSize("a", 7),
        FieldSize("user_id", 900),
        FieldSize("c", 30, 24),
        FieldSize("d", 11),
        FieldSize("narrow", 5, 4),
    ),
    bags=(FieldSize("tags", 6),),
    dense=2,
)


def side() -> Side:
    draw = torch.Generator().manual_seed(5)
    ids = [torch.randint(0, field.size, (ROWS,), generator=draw) for field in SIZES.ids]
    return Side(torch.stack(ids, 1), torch.rand(ROWS, 2, generator=draw), (random_bag(ROWS, 6, draw),))


def everything(embedding: FieldEmbedding, out: Tensor, layer: tuple[Tensor, Tensor]) -> list[Tensor]:
    """The values, and the gradients of the layer's weight and bias and of each table."""
    weighted = (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    found = torch.autograd.grad(weighted, [*layer, *embedding.tables])
    return [out.detach(), *(one.to_dense() for one in found)]


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_a_layer_multiplied_by_id_is_the_layer_with_its_gradients(dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(6)
    embedding = FieldEmbedding(SIZES, 16)
    for table in embedding.tables:
        torch.nn.init.normal_(table)
    weight = torch.randn(HIDDEN, sum(block.size for block in embedding.columns)).requires_grad_()
    bias, given = torch.randn(HIDDEN).requires_grad_(), side()

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        mine = everything(embedding, embedding.through(given, weight, bias=bias), (weight, bias))
    theirs = everything(embedding, F.linear(embedding(given), weight, bias), (weight, bias))

    for one, other in zip(mine, theirs, strict=True):
        assert (one - other).abs().max() <= near * other.abs().max()


def test_a_layer_over_nothing_but_fields_with_few_ids_is_the_layer_too() -> None:
    few = SideSizes(ids=(FieldSize("a", 7), FieldSize("d", 11)), bags=(), dense=0)
    embedding, given = FieldEmbedding(few, 16), Side(side().ids[:, [0, 3]], torch.empty(ROWS, 0))
    layer = torch.randn(HIDDEN, 32).requires_grad_(), torch.randn(HIDDEN).requires_grad_()

    mine = everything(embedding, embedding.through(given, layer[0], bias=layer[1]), layer)
    theirs = everything(embedding, F.linear(embedding(given), *layer), layer)

    for one, other in zip(mine, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_columns_are_cut_into_lots_and_the_rest_and_have_one_gradient() -> None:
    weight = torch.arange(12.0).view(2, 6).requires_grad_()

    rest, first, nothing, last = cut(weight, [[range(1, 2), range(3, 5)], [], [range(5, 6)]])
    (rest.sum() + 2 * first.sum() + 3 * last.sum()).backward()  # type: ignore[no-untyped-call]  # torch ships it untyped

    assert rest.tolist() == [[0, 2], [6, 8]]
    assert first.tolist() == [[1, 3, 4], [7, 9, 10]]
    assert nothing.shape == (2, 0)
    assert last.tolist() == [[5], [11]]
    assert weight.grad is not None
    assert weight.grad.tolist() == [[1, 2, 1, 2, 2, 3]] * 2


def test_ids_of_a_field_are_multiplied_apart_only_where_they_are_few_and_wide() -> None:
    assert worthwhile(rows=4096, ids=2048, width=32)
    assert not worthwhile(rows=4096, ids=2049, width=32)
    assert not worthwhile(rows=4096, ids=10, width=10)


def test_without_a_gradient_the_layer_is_the_plain_one() -> None:
    embedding, given = FieldEmbedding(SIZES, 16), side()
    weight = torch.randn(HIDDEN, sum(block.size for block in embedding.columns))

    with torch.no_grad():
        assert torch.equal(embedding.through(given, weight), F.linear(embedding(given), weight))


class Products(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch ships it untyped
    """Collects the shapes of the matrices that are multiplied."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch ships it untyped
        self.shapes: set[tuple[torch.Size, ...]] = set()

    def __torch_dispatch__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[Tensor, ...] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> object:
        if func is torch.ops.aten.mm.default:
            self.shapes.add(tuple(matrix.shape for matrix in args))
        return func(*args, **(kwargs or {}))


def test_products_by_id_are_of_few_shapes_however_many_ids_a_batch_names() -> None:
    few = SideSizes(ids=(FieldSize("a", 90), FieldSize("d", 100)), bags=(), dense=0)
    embedding, weight = FieldEmbedding(few, 16), torch.randn(HIDDEN, 32).requires_grad_()
    draw = torch.Generator().manual_seed(7)

    products = Products()
    with products:
        for most in range(1, 91):
            ids = torch.randint(0, most, (ROWS, 2), generator=draw)
            embedding.through(Side(ids, torch.empty(ROWS, 0)), weight).sum().backward()  # type: ignore[no-untyped-call]  # torch's

    assert 0 < len(products.shapes) <= 8
