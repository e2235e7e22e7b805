import importlib.util
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest
import torch.distributed as dist

from model.data.dataset import Dataset
from model.sharded.errors import NotDistributed, ShardsUnusable
from model.sharded.plan import Plan
from model.sharded.shards import write_shards
from model.train_config import TrainConfig, TrainingFailed
from service.distributed import ranks
from service.distributed.ranks import DistributedRefused, Ranks, joined
from service.distributed.training import check_current
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


def test_a_net_that_begins_from_another_is_trained_on_one_machine(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(NotDistributed, match="fnn begins from a trained fm"):
        plan(data, tmp_path, architecture="fnn").check(2)

    plan(data, tmp_path, architecture="fnn", params={"pretrain_epochs": 0}).check(2)


def test_an_unknown_recipe_is_refused_before_anything_is_joined(data: Dataset, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="no recipe 'nope'"):
        plan(data, tmp_path, recipe="nope").check(2)


def test_shards_of_other_data_are_refused(data: Dataset, tmp_path: Path) -> None:
    made = plan(data, tmp_path)

    check_current(made, data)
    with pytest.raises(ShardsUnusable, match="other data than the home's; run `appshelf shard` again"):
        check_current(made, learnable(201))


def test_runs_of_other_configs_or_data_have_other_folders(data: Dataset, tmp_path: Path) -> None:
    one, same, other = plan(data, tmp_path), plan(data, tmp_path), plan(data, tmp_path, seed=1)

    assert one.place == same.place != other.place


@pytest.mark.usefixtures("alone")
def test_a_lost_rank_is_told_apart_from_other_failures() -> None:
    with pytest.raises(DistributedRefused, match="another rank is gone"), joined(Ranks(0, 1)):
        raise RuntimeError("[gloo/transport/tcp/pair.cc:553] Connection closed by peer [127.0.0.1]:27810")


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranks, "_store", lambda _: None)
    monkeypatch.setattr(dist, "init_process_group", lambda *_, **__: None)
    monkeypatch.setattr(dist, "destroy_process_group", lambda *_, **__: None)
