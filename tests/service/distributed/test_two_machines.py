import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from shutil import copytree

import pytest
import torch

from model.bundle import load
from model.data.dataset import write
from model.data.synthetic import SyntheticConfig, dataset
from model.sharded.shards import write_shards
from tests.service.distributed.namespaces import Namespace, two_namespaces
from tests.service.distributed.torchrun import PATIENCE_S, ROOT, environment, finished, require_extra, torchrun

pytestmark = pytest.mark.e2e
CONFIG = "params: {dim: 4, hidden: [8]}\nbatch_size: 256\nepochs: 1\n"


@pytest.fixture
def machines() -> Iterator[tuple[Namespace, Namespace]]:
    require_extra()
    with two_namespaces() as made:
        yield made


@pytest.fixture
def home(tmp_path: Path) -> Path:
    data, _ = dataset(SyntheticConfig(users=60, apps=40, days=10, impressions=3_000, head=8))
    write(data, tmp_path / "home" / "data")
    write_shards(data, tmp_path / "home" / "shards", count=2)
    (tmp_path / "config.yaml").write_text(CONFIG, encoding="utf-8")
    return tmp_path / "home"


def started(machine: Namespace, home: Path, *more: str, meeting: Namespace) -> "subprocess.Popen[str]":
    """One node of two, with one rank on it. meeting: where they meet, which a node knows by no name of its own here."""
    there = ("--rdzv-endpoint", f"{meeting.address}:29513", "--rdzv-conf", f"is_host={int(machine == meeting)}")
    options = ("--nnodes", "2", "--rdzv-backend", "c10d", "--rdzv-id", "shelf", *there, "--local-addr", machine.address)
    words = ("--config", str(home.parent / "config.yaml"), *more)
    command = torchrun(1, "service.distributed", *words, options=options)
    given = environment({"APPSHELF_HOME": str(home), "GLOO_SOCKET_IFNAME": machine.link})
    return subprocess.Popen(machine.command(*command), env=given, cwd=ROOT, text=True, stdout=-1, stderr=-1)


def ended(nodes: Sequence["subprocess.Popen[str]"]) -> list[tuple[str, str]]:
    """What each node said, once all have ended."""
    with ExitStack() as running:
        for node in nodes:
            running.callback(node.kill)
        return [node.communicate(timeout=PATIENCE_S) for node in nodes]


def test_two_machines_that_share_only_a_cable_and_a_folder_train_together(
    machines: tuple[Namespace, Namespace], home: Path
) -> None:
    alone = copytree(home, home.parent / "alone")
    nodes = [started(machine, home, meeting=machines[0]) for machine in machines]
    said = ended(nodes)

    assert [node.returncode for node in nodes] == [0, 0], said[0][1] + said[1][1]
    (version,) = (said[0][0] + said[1][0]).split()
    command = torchrun(2, "service.distributed", "--config", str(home.parent / "config.yaml"))
    on_one = finished(command, APPSHELF_HOME=str(alone))
    weights = load(home / "bundles" / version).weights
    expected = load(alone / "bundles" / on_one.stdout.strip()).weights
    assert weights.keys() == expected.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, expected[name])


def test_two_machines_that_were_given_other_things_are_told_so_and_do_not_wait_for_each_other(
    machines: tuple[Namespace, Namespace], home: Path
) -> None:
    nodes = [started(machines[0], home, meeting=machines[0])]
    nodes += [started(machines[1], home, "--seed", "1", meeting=machines[0])]
    said = ended(nodes)

    assert all(node.returncode for node in nodes)
    assert "rank 1 has another config, other shards or other options than rank 0" in said[0][1] + said[1][1]
