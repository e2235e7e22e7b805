import pytest
import torch
from torch import nn
from torch.func import functional_call

from model.blocks import Block, Per
from model.sharded.errors import Unshardable
from model.sharded.net import Scored, skeleton
from model.sharded.tables import Renumbering, tables_of
from model.zoo import ARCHITECTURES, build, forward
from tests.model.nets import SIZES, random_batch, scrambled


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_net_scores_the_same_on_the_rows_that_a_batch_asks_for(architecture: str) -> None:
    net, batch = build(architecture, {}, SIZES), random_batch(9)
    scrambled(net)
    net.eval()

    asked = Renumbering(SIZES, tables_of(net))(batch)

    parameters = dict(net.named_parameters())
    rows = {f"net.{name}": parameters[name].detach()[places] for name, places in asked.rows.items()}
    given = rows | {f"net.{name}": offsets for name, offsets in asked.buffers.items()}
    scores = functional_call(Scored(net), given, (asked.batch,))
    assert torch.allclose(scores, forward(net, batch), atol=1e-5)
    assert all(len(torch.unique(places)) == len(places) for places in asked.rows.values())


def test_a_batch_without_any_id_of_a_field_asks_for_one_row_of_it() -> None:
    net, batch = build("wide_deep", {}, SIZES), random_batch(1, seed=3)

    asked = Renumbering(SIZES, tables_of(net))(batch)

    assert all(
        len(places) >= len(table.fields) for table, places in zip(tables_of(net), asked.rows.values(), strict=True)
    )


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
