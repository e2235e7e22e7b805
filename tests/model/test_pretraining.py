import pytest
import torch
from torch import nn

from model.architectures.fm import FactorizationMachine, FMParams
from model.architectures.fnn import FNN, FNNParams
from model.pretraining import pretrain
from model.training import Progress, TrainConfig, train
from tests.model.families import FORMS
from tests.model.nets import SIZES, random_batch, scrambled
from tests.model.test_training import learnable


def machine(dim: int = 4) -> FactorizationMachine:
    net = FactorizationMachine(SIZES, FMParams(dim=dim)).requires_grad_(False)
    scrambled(net)
    return net


def fnn(dim: int = 4) -> FNN:
    return FNN(SIZES, FNNParams(dim=dim, hidden=(8, 6)))


def test_an_fnn_begins_with_the_machines_weight_and_vector_of_every_value() -> None:
    net, fm, batch = fnn(), machine(), random_batch(30)

    pretrain(net, fm)

    with torch.no_grad():
        sides = (
            (net.request, fm.request, fm.linear.request, batch.request),
            (net.app, fm.app, fm.linear.app, batch.app),
        )
        for mine, theirs, linear, side in sides:
            z = mine.of(side)
            torch.testing.assert_close(z[:, :, 1:], theirs.of(side))
            torch.testing.assert_close(z[:, :, 0].sum(1), linear(side))
        z = net.pair(batch.pair.dense)
        torch.testing.assert_close(z[:, :, 1:], fm.pairs.pair(batch.pair.dense))
        torch.testing.assert_close(z[:, :, 0].sum(1), batch.pair.dense @ fm.linear.pair_dense)
        assert torch.equal(net.constant, fm.linear.bias)


def test_what_was_copied_learns_on_and_the_machine_stays_as_it_is() -> None:
    net, fm = fnn(), machine()
    pretrain(net, fm)

    with torch.no_grad():
        net.constant.zero_()
        net.request.embedding.tables[0].zero_()

    assert fm.linear.bias.all()
    assert fm.request.embedding.tables[0].all()
    assert net.constant.requires_grad


@pytest.mark.parametrize(("epochs", "pretrained"), [(1, 1), (3, 2)])
def test_a_machine_is_trained_for_no_more_epochs_than_the_net_may_be(epochs: int, pretrained: int) -> None:
    params = {"dim": 2, "hidden": (4,), "pretrain_epochs": 2}
    config = TrainConfig(architecture="fnn", params=params, batch_size=64, epochs=epochs, patience=9)
    seen = list[Progress]()

    train(config, learnable(200), progress=seen.append)

    assert {one.epochs for one in seen if one.phase == "pretraining"} == {pretrained}
    assert max(one.epoch for one in seen if one.phase == "pretraining") == pretrained
    assert max(one.epoch for one in seen if one.phase == "training") == epochs


@pytest.mark.parametrize("dim", [5, 8])
def test_a_machine_of_another_width_does_not_fit(dim: int) -> None:
    with pytest.raises(RuntimeError):
        pretrain(fnn(), machine(dim))


@pytest.mark.parametrize(("net", "begins_from"), [(FORMS["deepfm"].net(), machine()), (fnn(), FORMS["ffm"].net())])
def test_no_other_family_begins_so_nor_from_another(net: nn.Module, begins_from: nn.Module) -> None:
    with pytest.raises(TypeError, match="an FNN begins from a factorization machine; these are"):
        pretrain(net, begins_from)
