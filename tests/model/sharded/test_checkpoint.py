"""Checkpoints of one rank, which go the same way as those of many."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch._C._distributed_c10d import HashStore

from model.sharded.checkpoint import FACTS, LATEST, Checkpoints
from model.sharded.errors import CheckpointUnusable, CheckpointUnwritten
from model.sharded.layout import Shard
from model.sharded.tables import Table

pytestmark = pytest.mark.filterwarnings("ignore:Please use DTensor:FutureWarning")  # torch's word to whom it concerns


@dataclass
class State:
    """What is kept beside the tensors."""

    ranks: int
    step: int = 0


TABLE = Table("table", rows=4, width=2, fields=("app_id",), offsets=None)


@pytest.fixture(scope="module", autouse=True)
def group() -> Iterator[None]:
    """This process as the one rank that there is."""
    dist.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    return Checkpoints(tmp_path / "run")


def shards(value: float) -> list[Shard]:
    return [Shard(TABLE, 0, nn.Parameter(torch.full((4, 2), value)), ((0, 4, 0),))]


def keep(kept: Checkpoints, value: float) -> None:
    """A checkpoint whose numbers are all that one."""
    held = shards(value)
    tensors = {"net.table": held[0].weight.detach(), "net.bias": torch.full((3,), value), "net.none": torch.empty(0)}
    kept.save(LATEST, tensors, held, {"ranks": 1, "step": int(value)})


def step_of(kept: Checkpoints) -> int | None:
    state = kept.facts(LATEST, State)
    return None if state is None else state.step


def test_what_was_kept_is_read_back_into_the_shards_and_whole(kept: Checkpoints) -> None:
    keep(kept, 7.0)
    held, bias = shards(0.0), torch.zeros(3)

    kept.load(LATEST, {"net.table": held[0].weight.detach(), "net.bias": bias}, held)

    assert step_of(kept) == 7
    assert torch.equal(held[0].weight.detach(), torch.full((4, 2), 7.0))
    assert torch.equal(bias, torch.full((3,), 7.0))
    assert {name: tuple(value.shape) for name, value in kept.whole(LATEST).items()} == {
        "net.table": (4, 2), "net.bias": (3,), "net.none": (0,)
    }  # fmt: skip


def test_where_nothing_was_kept_there_is_nothing_to_go_on_from(kept: Checkpoints) -> None:
    assert kept.facts(LATEST, State) is None


class Killed(BaseException):
    """Stands for the signal where the process is to live on."""


@pytest.mark.parametrize("renames", [0, 1])
def test_killed_between_any_two_steps_of_a_save_it_goes_on_from_a_checkpoint_that_is_whole(
    kept: Checkpoints, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    rename, left = Path.rename, [renames]

    def killing(place: Path, target: Path) -> Path:
        if not left[0]:
            raise Killed
        left[0] -= 1
        return rename(place, target)

    keep(kept, 1.0)
    for left[0] in (renames, 0):  # killed, gone on with, and killed at the first rename then
        monkeypatch.setattr(Path, "rename", killing)
        with pytest.raises(Killed):
            keep(kept, 2.0)
        monkeypatch.setattr(Path, "rename", rename)
        assert step_of(kept) == 1
        assert torch.equal(kept.whole(LATEST)["net.bias"], torch.full((3,), 1.0))

    keep(kept, 3.0)
    assert step_of(kept) == 3
    assert [one.name for one in kept.folder.iterdir()] == [LATEST]


def test_one_that_cannot_be_written_says_why_and_leaves_the_one_before_it(kept: Checkpoints) -> None:
    keep(kept, 1.0)
    (kept.folder / f".{LATEST}.partial").write_text("in the way", encoding="utf-8")

    with pytest.raises(CheckpointUnwritten, match=r"run/latest cannot be written \(.*partial.*\); make room"):
        keep(kept, 2.0)

    assert step_of(kept) == 1


def cut(place: Path) -> None:
    next(place.glob("*.safetensors")).write_bytes(b"")


def gone(place: Path) -> None:
    next(place.glob("*.safetensors")).unlink()


@pytest.mark.parametrize("damage", [cut, gone])
def test_one_that_is_damaged_is_named_with_what_to_do(kept: Checkpoints, damage: Callable[[Path], None]) -> None:
    keep(kept, 1.0)
    damage(kept.folder / LATEST)
    held = shards(0.0)

    with pytest.raises(CheckpointUnusable, match=rf"run/latest cannot be read \(.+\); remove {kept.folder} to begin"):
        kept.load(LATEST, {"net.table": held[0].weight.detach()}, held)


@pytest.mark.parametrize("facts", ["", "{", '{"step": 3}', '{"ranks": "many"}'])
def test_facts_that_are_not_a_runs_are_refused(kept: Checkpoints, facts: str) -> None:
    keep(kept, 1.0)
    (kept.folder / LATEST / FACTS).write_text(facts, encoding="utf-8")

    with pytest.raises(CheckpointUnusable, match="run/latest cannot be read"):
        kept.facts(LATEST, State)


def test_tensors_of_another_net_are_refused(kept: Checkpoints) -> None:
    keep(kept, 1.0)

    with pytest.raises(CheckpointUnusable, match=r"net\.unknown"):
        kept.load(LATEST, {"net.unknown": torch.zeros(2)}, [])
