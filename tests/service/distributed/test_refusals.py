import importlib.util
import os
import re
from dataclasses import replace
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch.distributed as dist
import typer
from typer.testing import CliRunner

from model.data.dataset import Dataset
from model.sharded.errors import NotDistributed, ShardsUnusable
from model.sharded.plan import Plan
from model.sharded.shards import write_shards
from model.train_config import TrainConfig, TrainingFailed
from model.zoo import UnknownArchitecture
from service.commands.distributed import train_rank
from service.commands.session import Refusal
from service.distributed import ranks
from service.distributed.ranks import DistributedRefused, Ranks, joined
from service.distributed.training import alone, check_current
from service.errors import TrainingUnderWay
from tests.model.test_training import learnable


@pytest.fixture(scope="module")
def data() -> Dataset:
    return learnable(200)


def plan(data: Dataset, folder: Path, **config: object) -> Plan:
    shards = write_shards(data, folder / "shards", count=2)
    return Plan(TrainConfig.model_validate(config), shards, folder / "runs")


def test_a_process_that_torchrun_did_not_start_is_told_how_to_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))

    with pytest.raises(DistributedRefused, match=r"torchrun --nproc-per-node 2 -m service\.distributed"):
        Ranks.of({})


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    with pytest.raises(DistributedRefused, match=r'torchrec and fbgemm_gpu .*pip install "appshelf\[distributed\]"'):
        Ranks.of({"RANK": "0", "WORLD_SIZE": "2"})


@pytest.mark.parametrize(("params", "epochs"), [({}, 10), ({"pretrain_epochs": 3}, 3)])
def test_a_net_that_begins_from_another_is_trained_on_one_machine(
    data: Dataset, tmp_path: Path, params: dict[str, int], epochs: int
) -> None:
    told = (
        rf"fnn has pretrain_epochs {epochs}: it begins from an fm .* pretrain_epochs to 0, or run `appshelf train --a"
    )
    with pytest.raises(NotDistributed, match=told):
        plan(data, tmp_path, architecture="fnn", params=params).check(2)

    plan(data, tmp_path, architecture="fnn", params={"pretrain_epochs": 0}).check(2)


@pytest.mark.parametrize(
    ("config", "refusal", "told"),
    [
        ({"recipe": "nope"}, TrainingFailed, "no recipe 'nope'"),
        ({"recipe_options": {"nope": 1}}, TrainingFailed, "recipe paper: nope"),
        ({"architecture": "nope"}, UnknownArchitecture, "no architecture 'nope'; there are .*wide_deep"),
        ({"params": {"nope": 1}}, UnknownArchitecture, "wide_deep: nope"),
    ],
)
def test_what_no_training_takes_is_refused_before_anything_is_joined(
    data: Dataset, tmp_path: Path, config: dict[str, object], refusal: type[Exception], told: str
) -> None:
    with pytest.raises(refusal, match=told):
        plan(data, tmp_path, **config).check(2)


def test_learning_on_from_a_version_is_refused_with_where_that_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: ModuleSpec(name, None))
    app = typer.Typer()
    app.command()(train_rank)
    environ = {"RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": "1"}

    refused = CliRunner().invoke(app, ["--from", "live"], obj=environ)

    assert isinstance(refused.exception, Refusal)
    assert re.search("--from live: ranks learn from scratch.*appshelf train --from live", str(refused.exception))


def test_two_trainings_of_one_config_do_not_write_to_the_same_checkpoints(tmp_path: Path) -> None:
    with alone(tmp_path / "run"):
        with (
            pytest.raises(TrainingUnderWay, match=rf"process {os.getpid()} is training in .*run"),
            alone(tmp_path / "run"),
        ):
            raise AssertionError
        with alone(tmp_path / "other"):
            pass
    with alone(tmp_path / "run"):
        pass


def test_shards_of_other_data_are_refused(data: Dataset, tmp_path: Path) -> None:
    made = plan(data, tmp_path)

    check_current(made, data)
    with pytest.raises(ShardsUnusable, match="other data than the home's; run `appshelf shard` again"):
        check_current(made, learnable(201))


def test_runs_of_other_configs_or_data_have_other_folders(data: Dataset, tmp_path: Path) -> None:
    one, same, other = plan(data, tmp_path), plan(data, tmp_path), plan(data, tmp_path, seed=1)
    cut_again = replace(one, shards=write_shards(data, tmp_path / "again", count=2, seed=1))

    assert one.place == same.place
    assert len({one.place, other.place, cut_again.place}) == 3


@pytest.mark.usefixtures("joinable")
def test_a_lost_rank_is_told_apart_from_other_failures() -> None:
    with pytest.raises(DistributedRefused, match="another rank is gone"), joined(Ranks(0, 1)):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:27810")
    with pytest.raises(DistributedRefused, match="another rank is gone"), joined(Ranks(0, 1)):
        raise dist.DistNetworkError("Connection was likely closed. Did the remote server shutdown or crash?")
    with pytest.raises(RuntimeError, match="a bug"), joined(Ranks(0, 1)):
        raise RuntimeError("a bug")
    with pytest.raises(ShardsUnusable, match="/srv/gloo/home"), joined(Ranks(0, 1)):
        raise ShardsUnusable("/srv/gloo/home/shards holds no shards; run `appshelf shard`")


@pytest.fixture
def joinable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_store", lambda _: None)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda *_, **__: None)
