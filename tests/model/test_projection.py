import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from model.batch import FieldSize, Side, SideSizes
from model.layers import FieldEmbedding
from model.projection import worthwhile
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


def everything(embedding: FieldEmbedding, out: Tensor, weight: Tensor) -> list[Tensor]:
    """The values, and the gradients of the weight and of each table."""
    weighted = (out.float() * torch.linspace(-1, 1, out.numel()).view_as(out)).sum()
    found = torch.autograd.grad(weighted, [weight, *embedding.tables])
    return [out.detach(), *(one.to_dense() for one in found)]


@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.bfloat16, 3e-2)])
def test_a_layer_multiplied_by_id_is_the_layer_with_its_gradients(dtype: torch.dtype, near: float) -> None:
    torch.manual_seed(6)
    embedding = FieldEmbedding(SIZES, 16)
    for table in embedding.tables:
        torch.nn.init.normal_(table)
    weight = torch.randn(HIDDEN, sum(block.size for block in embedding.columns)).requires_grad_()
    bias, given = torch.randn(HIDDEN), side()

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype is torch.bfloat16):
        mine = everything(embedding, embedding.through(given, weight, bias=bias), weight)
    theirs = everything(embedding, F.linear(embedding(given), weight, bias), weight)

    for one, other in zip(mine, theirs, strict=True):
        assert (one - other).abs().max() <= near * other.abs().max()


def test_ids_of_a_field_are_multiplied_apart_only_where_they_are_few_and_wide() -> None:
    assert worthwhile(rows=4096, ids=2048, width=32)
    assert not worthwhile(rows=4096, ids=2049, width=32)
    assert not worthwhile(rows=4096, ids=10, width=10)


def test_without_a_gradient_the_layer_is_the_plain_one() -> None:
    embedding, given = FieldEmbedding(SIZES, 16), side()
    weight = torch.randn(HIDDEN, sum(block.size for block in embedding.columns))

    with torch.no_grad():
        assert torch.equal(embedding.through(given, weight), F.linear(embedding(given), weight))
