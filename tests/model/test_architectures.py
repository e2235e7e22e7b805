"""What every family of the zoo keeps to, in each of its forms."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from model.batch import Bag, Batch, FieldSize, Pair, Side
from model.blocks import NamedSide, NamedSizes, axes_of
from model.layers import Part
from model.zoo import ARCHITECTURES, UnknownArchitecture, build, check_params, forward, params_for
from tests.model.families import FORMS, TOWER, Form
from tests.model.nets import SIZES, random_batch
from tests.model.oracles import ORACLES

NOTHING = NamedSide((), (), 0)
ONE = NamedSide((FieldSize("app_id", 6),), (), 0)
POOR = {
    "no continuous values": NamedSizes(NamedSide(SIZES.request.ids, (), 0), NamedSide(SIZES.app.ids, (), 0), 0, 32),
    "no crosses": replace(SIZES, crosses=0, cross_rows=()),
    "no pair numbers": replace(SIZES, pair_dense=0, pair_numbers=()),
    "one field a side": NamedSizes(NamedSide((FieldSize("user_id", 7),), (), 0), ONE, 0, 0),
    "a bag alone beside an app": NamedSizes(NamedSide((), (FieldSize("installed", 6),), 0), ONE, 0, 0),
    "numbers alone beside an app": NamedSizes(NamedSide((), (), 2, ("age", "speed")), ONE, 1, 0, ("uses",)),
    "an app alone": NamedSizes(NOTHING, ONE, 0, 0),
}


@pytest.fixture(params=FORMS.values(), ids=list(FORMS))
def form(request: pytest.FixtureRequest) -> Form:
    found: Form = request.param
    return found


def test_every_family_has_a_form_and_an_oracle_here() -> None:
    assert {one.architecture for one in FORMS.values()} == ARCHITECTURES.keys() == ORACLES.keys()


def test_a_batch_gives_a_logit_a_row_and_each_side_a_row_of_each_part(form: Form) -> None:
    net, batch = form.net(), random_batch(11)

    logits = forward(net, batch)

    assert logits.shape == (11,)
    assert logits.dtype == torch.float32
    assert logits.isfinite().all()
    for part in (net.request_part(batch.request), net.app_part(batch.app)):
        assert all(len(tensor) == 11 for tensor in part.values())


def test_every_parameter_gets_a_gradient(form: Form) -> None:
    net = form.net()

    forward(net, random_batch(64)).sum().backward()  # type: ignore[no-untyped-call]  # torch ships it untyped

    assert [key for key, parameter in net.named_parameters() if parameter.grad is None] == []


def test_the_whole_net_equals_the_papers_formula_in_a_naive_loop(form: Form) -> None:
    net, batch = form.settled(), random_batch(9)

    logits = forward(net, batch)

    expected = torch.tensor([ORACLES[form.architecture](net, batch, row) for row in range(9)])
    torch.testing.assert_close(logits, expected, rtol=1e-5, atol=1e-5)
    assert logits.std() > 0.01


def test_one_request_against_many_apps_equals_the_rows_written_out(form: Form) -> None:
    net, batch = form.settled(), random_batch(12)
    same = batch.request.select(torch.zeros(12, dtype=torch.int64))

    once = net.request_part(batch.request.select(torch.tensor([0])))
    split = net.combine(once, net.app_part(batch.app), batch.pair)

    whole = forward(net, Batch(same, batch.app, batch.pair, batch.label, batch.weight))
    torch.testing.assert_close(split, whole, rtol=1e-5, atol=1e-5)


def test_a_row_scores_alone_as_it_does_among_others(form: Form) -> None:
    net, batch = form.settled(), random_batch(7)
    request, app = net.request_part(batch.request), net.app_part(batch.app)

    alone = [net.combine(_row(request, row), _row(app, row), _pair(batch, row)) for row in range(7)]

    torch.testing.assert_close(torch.cat(alone), forward(net, batch), rtol=1e-5, atol=1e-5)


def _row(part: Part, row: int) -> Part:
    return {name: tensor[row : row + 1] for name, tensor in part.items()}


def _pair(batch: Batch, row: int) -> Pair:
    place = torch.tensor([row])
    return Pair(batch.pair.dense[place], tuple(bag.select(place) for bag in batch.pair.crosses))


def test_only_matrices_that_feed_a_tower_may_be_read_in_halves(form: Form) -> None:
    net = form.net()

    part = net.app_part(random_batch(3).app)

    assert net.halved == form.halved
    assert all(part[one].dtype == torch.float32 and part[one].dim() == 2 for one in net.halved)


def test_a_net_says_truly_whether_each_field_of_a_request_adds_its_own_share(form: Form) -> None:
    net, batch = form.settled(), random_batch(40)
    ids, dense, bags = batch.request.ids, batch.request.dense, batch.request.bags
    other = random_batch(40, seed=1).request

    def part(ids: Tensor, dense: Tensor, bags: tuple[Bag, ...]) -> Tensor:
        found = net.request_part(Side(ids, dense, bags))
        return torch.cat([tensor.flatten(1) if tensor.dim() > 1 else tensor[:, None] for tensor in found.values()], 1)

    shares = part(other.ids, dense, bags) + part(ids, other.dense, bags) + part(ids, dense, other.bags)
    apart = shares - 2 * part(ids, dense, bags) - part(other.ids, other.dense, other.bags)

    assert net.additive == form.additive
    assert bool(apart.abs().max() < 1e-4) == form.additive


@pytest.mark.parametrize("sizes", POOR.values(), ids=POOR.keys())
def test_a_schema_may_lack_almost_everything(form: Form, sizes: NamedSizes) -> None:
    net, batch = form.net(sizes), random_batch(16, sizes=sizes)

    logits = forward(net, batch)
    logits.sum().backward()  # type: ignore[no-untyped-call]  # torch ships it untyped

    assert logits.shape == (16,)
    assert logits.isfinite().all()
    quiet = net.eval()
    once = quiet.request_part(batch.request.select(torch.tensor([0])))
    assert quiet.combine(once, quiet.app_part(batch.app), batch.pair).shape == (16,)


def test_bags_may_all_be_empty(form: Form) -> None:
    net, batch = form.settled(), random_batch(5)
    nothing = Bag(torch.empty(0, dtype=torch.int64), torch.zeros(5, dtype=torch.int64))
    request, app = (replace(side, bags=(nothing,), crosses=(nothing,)) for side in (batch.request, batch.app))

    logits = forward(net, replace(batch, request=request, app=app, pair=Pair(batch.pair.dense, (nothing,))))

    assert logits.isfinite().all()


def test_described_rows_and_columns_are_as_many_as_the_parameter_has(form: Form) -> None:
    net = form.net()
    shapes = {name: tensor.shape for name, tensor in net.named_parameters()}

    for name, axes in axes_of(net).items():
        for axis, blocks in axes.items():
            names = [(block.owner, block.per) for block in blocks]
            assert len(set(names)) == len(names), name
            assert sum(block.size for block in blocks) in (shapes[name][axis], 0), name


def test_a_net_that_is_only_a_skeleton_holds_no_number(form: Form) -> None:
    with torch.device("meta"):
        net = build(form.architecture, form.params, SIZES)

    assert all(parameter.is_meta for parameter in net.parameters())
    assert {name: tensor.shape for name, tensor in net.state_dict().items()} == {
        name: tensor.shape for name, tensor in form.net().state_dict().items()
    }


def test_the_same_seed_gives_the_same_net(form: Form) -> None:
    one, other = form.net().state_dict(), form.net().state_dict()

    assert all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_an_unknown_architecture_or_parameter_is_named_with_what_there_is() -> None:
    with pytest.raises(UnknownArchitecture, match=r"no architecture 'deep_fm'; there are dcn_v2, deep_crossing"):
        check_params("deep_fm", {})
    with pytest.raises(UnknownArchitecture, match=r"wide_deep: depth: .*; its parameters: wide, deep, dim, hidden"):
        check_params("wide_deep", {"depth": 3})
    with pytest.raises(UnknownArchitecture, match=r"lr: dim: .*; its parameters: none"):
        check_params("lr", {"dim": 4})
    with pytest.raises(UnknownArchitecture, match=r"pnn: product: Input should be 'inner', 'outer' or 'both'"):
        check_params("pnn", {"product": "cross"})
    with pytest.raises(UnknownArchitecture, match=r"deepfm: hidden\.1"):
        check_params("deepfm", {"hidden": (8, 0)})
    with pytest.raises(UnknownArchitecture, match=r"wide_deep: hidden\.0"):
        check_params("wide_deep", {"hidden": (0,)})


def test_a_recipes_defaults_go_to_the_families_that_know_them_and_what_was_given_goes_before() -> None:
    wanted = {"batch_norm": True, "dropout": 0.3}

    assert params_for("fm", wanted, {"dim": 8}) == {"dim": 8}
    assert params_for("deepfm", wanted, {"dropout": 0.0, **TOWER}) == {"batch_norm": True, "dropout": 0.0, **TOWER}
    with pytest.raises(UnknownArchitecture, match="dropout"):
        check_params("fm", params_for("fm", wanted, {"dropout": 0.1}))
    with pytest.raises(UnknownArchitecture, match="no architecture 'gbdt'"):
        params_for("gbdt", wanted, {})


def test_either_half_of_wide_deep_can_be_switched_off_but_not_both() -> None:
    assert build("wide_deep", {"wide": False}, SIZES).wide is None
    assert build("wide_deep", {"deep": False}, SIZES).deep is None
    with pytest.raises(UnknownArchitecture, match="keep one on"):
        check_params("wide_deep", {"wide": False, "deep": False})
