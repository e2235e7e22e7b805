from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call

from model.batch import Bag, Batch
from model.blocks import Block, Per
from model.sharded.errors import Unshardable
from model.sharded.net import Scored, skeleton
from model.sharded.tables import Asked, Renumbering, tables_of
from model.zoo import ARCHITECTURES, Net, build, forward
from tests.model.nets import SIZES, random_batch, scrambled


def scored_on(asked: Asked, net: Net) -> Tensor:
    """(B,) logits of a net on the rows that a batch asks for and no others."""
    parameters = dict(net.named_parameters())
    rows = {f"net.{name}": parameters[name].detach()[places].requires_grad_() for name, places in asked.rows.items()}
    given = rows | {f"net.{name}": offsets for name, offsets in asked.buffers.items()}
    return torch.as_tensor(functional_call(Scored(net), given, (asked.batch,)))


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_net_scores_the_same_on_the_rows_that_a_batch_asks_for(architecture: str) -> None:
    net, batch = build(architecture, {}, SIZES), random_batch(9)
    scrambled(net)
    net.eval()

    asked = Renumbering(SIZES, tables_of(net))(batch)

    assert torch.allclose(scored_on(asked, net), forward(net, batch), atol=1e-5)
    assert all(len(torch.unique(places)) == len(places) for places in asked.rows.values())


def without_crosses(batch: Batch) -> Batch:
    """The batch with no id in any bag of its crosses."""

    def emptied(bags: tuple[Bag, ...]) -> tuple[Bag, ...]:
        return tuple(Bag(bag.values[:0], torch.zeros_like(bag.offsets)) for bag in bags)

    request, app = (replace(side, crosses=emptied(side.crosses)) for side in (batch.request, batch.app))
    return replace(batch, request=request, app=app, pair=replace(batch.pair, crosses=emptied(batch.pair.crosses)))


@pytest.mark.parametrize("training", [False, True])
def test_a_batch_asks_for_what_it_holds_and_for_no_row_of_a_table_of_which_it_holds_none(training: bool) -> None:
    net, batch = build("wide_deep", {}, SIZES).train(training), without_crosses(random_batch(5, seed=3))
    scrambled(net)

    asked = Renumbering(SIZES, tables_of(net))(batch)

    assert len(asked.rows["wide.crosses"]) == 0
    fields = [*batch.app.ids.unbind(1), *(bag.values for bag in batch.app.bags)]
    assert len(asked.rows["wide.app.table"]) == sum(len(set(ids.tolist())) for ids in fields)
    scores = scored_on(asked, net)
    torch.autograd.backward(scores.sum())
    assert torch.allclose(scores, forward(net, batch), atol=1e-5)


def test_a_table_outside_the_known_layers_is_refused_by_its_name() -> None:
    class Strange(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.odd = nn.Parameter(torch.zeros(3, 2))

        def axes(self) -> dict[str, dict[int, tuple[Block, ...]]]:
            return {"odd": {0: (Block("app_id", 3, Per.VALUE),)}}

    with pytest.raises(Unshardable, match=r"layer\.odd"):
        tables_of(nn.ModuleDict({"layer": Strange()}))


def test_of_a_skeleton_nothing_is_allocated_and_its_tables_are_those_of_the_net() -> None:
    assert skeleton("wide_deep", {}, SIZES) == tables_of(build("wide_deep", {}, SIZES))
