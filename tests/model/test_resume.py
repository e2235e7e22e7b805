"""A training that was killed goes on from its checkpoint, and ends with the weights that it would have ended with."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from model.bundle import save
from model.checkpoint import CheckpointError, CheckpointUnusable
from model.data.dataset import write
from model.training import Progress, TrainConfig, Training, TrainingFailed, TrainResult
from tests.model.killed import Plan, Point, every, killed, training
from tests.model.parents import bundle_from, trained
from tests.model.test_training import learnable

SMALL: dict[str, Any] = {"dim": 4, "hidden": (16, 8)}
CONFIG: dict[str, Any] = {"params": SMALL, "batch_size": 64, "epochs": 3, "patience": 3, "seed": 5}
DATA = learnable(700)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("resume") / "data"
    write(DATA, folder)
    return folder


@pytest.fixture(scope="module")
def parent(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle to learn on from, trained by Adam with batch norm and dropout."""
    result = trained(TrainConfig(recipe="adam", params=SMALL, batch_size=64, epochs=1), learnable(300))
    return save(bundle_from(result, DATA), tmp_path_factory.mktemp("bundles"))


def plan(data: Path, tmp_path: Path, config: dict[str, Any], point: Point = ("training", 2, 5)) -> Plan:
    return Plan(str(data), str(tmp_path / "training"), {**CONFIG, **config}, None, point)


def uninterrupted(one: Plan) -> TrainResult:
    """The same training, done in one go and in memory."""
    return replace(training(one, resume=False), workspace=None).run(lambda _: None)


def assert_same(one: TrainResult, other: TrainResult) -> None:
    """Bit for bit."""
    for mine, theirs in ((one.net.state_dict(), other.net.state_dict()), (one.optimizer_state, other.optimizer_state)):
        assert mine.keys() == theirs.keys()
        assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert (one.history, one.best_epoch, one.metrics) == (other.history, other.best_epoch, other.metrics)


@pytest.mark.parametrize(
    ("config", "point"),
    [
        ({"recipe": "paper"}, ("training", 1, 3)),
        ({"recipe": "paper"}, ("training", 2, 1)),
        ({"recipe": "adam"}, ("training", 2, 6)),
        ({"recipe": "adam", "recipe_options": {"rate": 0.2}}, ("training", 3, 7)),  # after a rate that was lowered
        ({"recipe": "sgd"}, ("training", 2, 5)),
        ({"architecture": "fnn", "params": {"dim": 4, "hidden": (8,), "pretrain_epochs": 2}}, ("pretraining", 2, 4)),
        ({"architecture": "fnn", "params": {"dim": 4, "hidden": (8,), "pretrain_epochs": 2}}, ("training", 1, 5)),
        ({"recipe": "adam", "shuffle_rows": 1024, "batch_size": 16}, ("training", 2, 20)),
        ({"recipe": "adam", "architecture": "deep_crossing", "params": {**SMALL, "dropout": 0.4}}, ("training", 2, 6)),
    ],
)
def test_killed_in_the_middle_of_an_epoch_it_ends_with_the_same_weights(
    data: Path, tmp_path: Path, config: dict[str, Any], point: Point
) -> None:
    one = plan(data, tmp_path, config, point)

    assert killed(one) == -signal.SIGKILL
    seen, said = list[Progress](), list[str]()
    resumed = training(one, resume=True, say=said.append).run(seen.append)

    assert_same(resumed, uninterrupted(one))
    assert (seen[0].phase, seen[0].epoch) in {point[:2], (point[0], point[1] - 1)}
    assert len(said) == 1
    assert said[0].startswith("goes on at epoch ")


def test_a_warm_start_that_was_killed_ends_with_the_same_weights(data: Path, parent: Path, tmp_path: Path) -> None:
    one = replace(plan(data, tmp_path, {"recipe": "adam"}), parent=str(parent))

    assert killed(one) == -signal.SIGKILL
    seen = list[Progress]()
    resumed = training(one, resume=True).run(seen.append)

    assert_same(resumed, uninterrupted(one))
    assert seen[0].epoch == 2
    assert resumed.transferred is not None


class Killed(BaseException):
    """Stands for the signal where the process is to live on."""


def interrupted(one: Plan) -> Training:
    """A training of the plan that was cut short at its point, ready to go on."""

    def die(seen: Progress) -> None:
        if (seen.phase, seen.epoch, seen.step) == one.point:
            raise Killed

    with pytest.raises(Killed):
        training(one, resume=False).run(die)
    return training(one, resume=True)


def test_it_may_be_interrupted_again_and_again(data: Path, tmp_path: Path) -> None:
    one = plan(data, tmp_path, {"recipe": "adam"}, ("training", 1, 4))
    again = interrupted(one)
    later = replace(one, point=("training", 3, 2))

    def die(seen: Progress) -> None:
        if (seen.phase, seen.epoch, seen.step) == later.point:
            raise Killed

    with pytest.raises(Killed):
        again.run(die)

    assert_same(training(later, resume=True).run(lambda _: None), uninterrupted(one))


def test_killed_before_its_first_checkpoint_it_begins_anew(data: Path, tmp_path: Path) -> None:
    one = replace(plan(data, tmp_path, {}, ("training", 1, 3)), every=100)
    seen = list[Progress]()

    resumed = interrupted(one).run(seen.append)

    assert (seen[0].epoch, seen[0].step) == (1, 1)
    assert_same(resumed, uninterrupted(one))


@contextmanager
def threads(count: int) -> Iterator[None]:
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(1)


def test_it_goes_on_with_as_many_threads_as_it_had_and_leaves_those_that_there_are(data: Path, tmp_path: Path) -> None:
    one, seen, said = plan(data, tmp_path, {"recipe": "adam"}), set[int](), list[str]()
    interrupted(one)

    with threads(2):
        resumed = training(one, resume=True, say=said.append).run(lambda _: seen.add(torch.get_num_threads()))
        after = torch.get_num_threads()

    assert (seen, after) == ({1}, 2)
    assert len(said) == 1
    assert_same(resumed, uninterrupted(one))


def test_where_there_are_fewer_threads_it_says_that_the_last_bits_will_differ(data: Path, tmp_path: Path) -> None:
    one, said = plan(data, tmp_path, {"recipe": "adam"}), list[str]()
    with threads(2):
        interrupted(one)

    training(one, resume=True, say=said.append).run(lambda _: None)

    assert "it was on 2 threads and is on 1 now, so its weights will differ in their last bits" in said[1]
    assert "OMP_NUM_THREADS=2 gives the same" in said[1]


def newest(one: Plan) -> Path:
    return max((Path(one.workspace) / "checkpoints").iterdir())


@pytest.mark.parametrize("name", ["tensors.safetensors", "checkpoint.json"])
@pytest.mark.parametrize("damage", ["gone", "cut", "changed"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_it_used(
    data: Path, tmp_path: Path, name: str, damage: str
) -> None:
    one, said = plan(data, tmp_path, {"recipe": "adam"}), list[str]()
    interrupted(one)
    place = newest(one) / name
    content = place.read_bytes()
    changed = content[:-9] + bytes([content[-9] ^ 1]) + content[-8:]
    place.unlink() if damage == "gone" else place.write_bytes(content[:100] if damage == "cut" else changed)

    resumed = training(one, resume=True, say=said.append).run(lambda _: None)

    assert f"{newest(one).parent}" in said[0]
    assert "is damaged" in said[0]
    assert_same(resumed, uninterrupted(one))


def test_without_a_whole_checkpoint_it_does_not_go_on_and_says_what_to_do(data: Path, tmp_path: Path) -> None:
    one = plan(data, tmp_path, {})
    interrupted(one)
    for kept in (Path(one.workspace) / "checkpoints").iterdir():
        (kept / "checkpoint.json").write_text("{}")

    with pytest.raises(CheckpointError, match=r"no checkpoint to go on from: .* is damaged .*train without --resume"):
        training(one, resume=True).run(lambda _: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch_size": 32}, r"config\.batch_size was 64 and is 32 now"),
        ({"recipe": "adam"}, r'config\.recipe was "paper" and is "adam" now'),
        ({"seed": 6}, r"config\.seed was 5 and is 6 now"),
    ],
)
def test_a_checkpoint_of_another_config_is_refused_with_both_named(
    data: Path, tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    one = plan(data, tmp_path, {})
    interrupted(one)

    with pytest.raises(CheckpointError, match=message):
        training(replace(one, config={**one.config, **change}), resume=True).run(lambda _: None)


def test_a_checkpoint_of_other_data_is_refused_with_both_named(data: Path, tmp_path: Path) -> None:
    one = plan(data, tmp_path, {})
    interrupted(one)
    write(learnable(650), tmp_path / "other")

    with pytest.raises(CheckpointError, match=r'data was "[0-9a-f]{64}" and is "[0-9a-f]{64}" now'):
        training(replace(one, data=str(tmp_path / "other")), resume=True).run(lambda _: None)


def test_what_another_release_has_encoded_is_not_gone_on_with(data: Path, tmp_path: Path) -> None:
    one = plan(data, tmp_path, {})
    interrupted(one)
    now = training(one, resume=True)
    assert now.workspace is not None
    later = replace(now, workspace=replace(now.workspace, release="2.0"))

    with pytest.raises(CheckpointUnusable, match=r'release was null and is "2\.0" now'):
        later.run(lambda _: None)


@pytest.mark.parametrize("at", ["mkdir", "save_file", "sync", "os.replace", "shutil.rmtree"])
def test_a_checkpoint_cut_short_anywhere_leaves_one_to_go_on_from(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    one = plan(data, tmp_path, {"recipe": "adam"}, ("training", 3, 1))
    calls = 0

    def die(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if calls > 20:
            raise Killed
        real(*_, **__)

    target = {"mkdir": "pathlib.Path.mkdir", "os.replace": "model.checkpoint.os.replace"}.get(at)
    target = target or f"model.checkpoint.{at}"
    holder, name = target.rsplit(".", 1)
    real = pytest.importorskip("pkgutil").resolve_name(holder).__dict__[name]
    with monkeypatch.context() as patch:
        patch.setattr(target, die)
        with pytest.raises(Killed):
            training(replace(one, every=1), resume=False).run(lambda _: None)

    assert_same(training(one, resume=True).run(lambda _: None), uninterrupted(one))


def test_at_most_two_checkpoints_stand_and_nothing_else(data: Path, tmp_path: Path) -> None:
    one = plan(data, tmp_path, {})
    interrupted(one)

    kept = sorted(place.name for place in (Path(one.workspace) / "checkpoints").iterdir())

    assert kept == ["kept-00000005", "kept-00000006"]


def test_a_training_that_is_not_to_go_on_begins_with_an_empty_folder(data: Path, tmp_path: Path) -> None:
    one = plan(data, tmp_path, {})
    interrupted(one)
    seen = list[Progress]()

    training(one, resume=False).run(seen.append)

    assert (seen[0].epoch, seen[0].step) == (1, 1)


def test_a_gpu_that_is_not_there_is_an_error_that_says_so(data: Path, tmp_path: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")

    with pytest.raises(TrainingFailed, match="device cuda was asked for and torch finds no GPU here"):
        training(plan(data, tmp_path, {"device": "cuda"}), resume=False).run(lambda _: None)


def test_every_is_true_once_in_so_many_times() -> None:
    due = every(3)
    assert np.flatnonzero([due() for _ in range(7)]).tolist() == [2, 5]
