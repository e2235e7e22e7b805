"""`appshelf train --resume`, and the folder of the training under way."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from model.run import Run as Loop
from model.training import TrainConfig
from service.errors import NothingToResume, TrainingUnderWay
from service.lifecycle import TrainOptions
from service.unfinished import ASKED, LEAST_EVERY_S, Due, Unfinished, unfinished
from tests.service.command_line import Run, refusal

OPTIONS = TrainOptions(TrainConfig(epochs=2, params={"hidden": [4]}), "20261120T194846Z-1a2b3c", "reset", compact=True)


JUDGE = Loop._judge


class Killed(Exception):
    """Stands for the signal where the process is to live on."""


def killed_at(monkeypatch: pytest.MonkeyPatch, run: Run, epoch: int, *words: str) -> None:
    """Run `train`, which keeps a checkpoint after every other step, until it dies at the end of an epoch."""
    judge = Loop._judge

    def die(self: Loop, *arguments: object) -> object:
        if self.epoch == epoch and self.step:
            raise Killed
        return judge(self, *arguments)  # type: ignore[arg-type]  # as they came

    with monkeypatch.context() as patch:
        patch.setattr("service.unfinished.LEAST_EVERY_S", 0.0)
        patch.setattr("service.unfinished.SHARE", float("inf"))
        patch.setattr(Loop, "_judge", die)
        assert isinstance(run("train", *words).exception, Killed)


def test_a_training_that_was_killed_goes_on_and_becomes_a_version(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(monkeypatch, run, 2, "--epochs", "3", "--seed", "7")

    resumed = run("train", "--resume", "--json")

    assert resumed.exit_code == 0, resumed.output
    assert "goes on at epoch 2, after step" in resumed.stderr
    assert json.loads(resumed.stdout)["parent"] is not None
    assert "epoch 1/3" not in resumed.stderr
    assert [one.name for one in (home / "training").iterdir()] == ["lock"]


def test_it_goes_on_with_the_options_that_it_was_asked_for_with_and_with_no_others(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(monkeypatch, run, 1, "--epochs", "3", "--seed", "7")

    assert "has seed 7 and 8 is asked for" in refusal(run("train", "--resume", "--seed", "8"))
    assert "leave out --from" in refusal(run("train", "--resume", "--scratch"))
    assert run("train", "--resume", "--seed", "7").exit_code == 0


def test_data_that_changed_since_is_refused_with_what_to_do(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(monkeypatch, run, 1)
    facts = home / "data" / "facts.json"
    facts.write_text(json.dumps(json.loads(facts.read_text()) | {"source": "another"}))

    refused = refusal(run("train", "--resume"))

    assert "is of another training: data was" in refused
    assert "train without --resume to begin anew" in refused


def test_nothing_to_resume_is_said(run: Run, home: Path) -> None:
    refused = refusal(run("train", "--resume"))

    assert refused == f"{home / 'training'} holds no training that was broken off; leave out --resume to begin one"


def test_another_training_in_the_place_of_one_that_was_broken_off_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(monkeypatch, run, 1)

    trained = run("train", "--epochs", "1")

    assert trained.exit_code == 0
    assert "is given up; --resume would have gone on with it" in trained.stderr


def test_one_that_is_done_is_not_gone_on_with(run: Run) -> None:
    assert run("train", "--epochs", "1").exit_code == 0
    assert "holds no training" in refusal(run("train", "--resume"))


def left_in(home: Path) -> list[str]:
    return sorted(one.name for one in (home / "training").iterdir())


def test_a_loss_that_is_not_finite_would_come_again_and_leaves_nothing_to_go_on_from(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed_at(monkeypatch, run, 1)  # whose checkpoints it would find
    options = home.parent / "mad.yaml"
    options.write_text("{recipe: adam, recipe_options: {rate: 1.0e+30}, params: {hidden: [4]}}")

    failed = run("train", "--scratch", "--config", str(options))

    assert "the loss became" in refusal(failed)
    assert "--resume goes on" not in failed.stderr
    assert left_in(home) == ["lock"]


def failing_at_epoch_2(self: Loop, *_: object) -> object:
    if self.epoch == 2:
        raise MemoryError("no memory for the judging of epoch 2")
    return JUDGE(self, *_)  # type: ignore[arg-type]  # as they came


def test_one_that_failed_before_its_first_checkpoint_leaves_nothing(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Loop, "_judge", failing_at_epoch_2)

    failed = run("train", "--epochs", "3")

    assert isinstance(failed.exception, MemoryError)
    assert "--resume goes on" not in failed.stderr
    assert left_in(home) == ["lock"]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
def test_one_that_failed_after_a_checkpoint_or_was_told_to_end_is_kept_and_says_how_to_go_on(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, error: type[BaseException]
) -> None:
    def fail(self: Loop, *_: object) -> object:
        raise error

    with monkeypatch.context() as patch:
        if error is MemoryError:
            patch.setattr("service.unfinished.LEAST_EVERY_S", 0.0)
            patch.setattr("service.unfinished.SHARE", float("inf"))
        patch.setattr(Loop, "_judge", fail)
        failed = run("train", "--epochs", "1", "--scratch")

    assert failed.exit_code
    said = f"what was done is kept in {home / 'training'}; `appshelf train --resume` goes on with it"
    assert said in failed.stderr
    resumed = run("train", "--resume")
    assert resumed.exit_code == 0
    assert ("had kept no checkpoint yet" in resumed.stderr) is (error is KeyboardInterrupt)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("{architecture: magic}", "no architecture 'magic'"),
        ("{params: {hidden: []}}", "hidden"),
        ("{recipe: magic}", "no recipe 'magic'"),
    ],
)
def test_one_that_cannot_begin_does_not_cost_the_one_that_was_broken_off(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, options: str, sentence: str
) -> None:
    killed_at(monkeypatch, run, 1)
    (home.parent / "wrong.yaml").write_text(options)

    refused = run("train", "--scratch", "--config", str(home.parent / "wrong.yaml"))

    assert sentence in refusal(refused)
    assert "given up" not in refused.stderr
    assert "goes on at epoch 1, after step" in run("train", "--resume").stderr


def held(folder: Path) -> Unfinished:
    folder.mkdir(exist_ok=True)
    return Unfinished(folder, lambda: 0.0, lambda _: None)


def test_it_is_kept_as_it_was_asked_for(tmp_path: Path) -> None:
    one = held(tmp_path / "training")
    assert one.asked is None

    one.begun(OPTIONS)

    assert held(tmp_path / "training").asked == OPTIONS
    one.done()
    assert one.asked is None


def test_an_unreadable_note_of_it_is_no_training(tmp_path: Path) -> None:
    one = held(tmp_path / "training")
    (one.folder / ASKED).write_text('{"config": {"epochs": "many"}}')

    with pytest.raises(NothingToResume):
        _ = one.asked


def test_two_trainings_in_one_home_are_refused_with_the_process(tmp_path: Path) -> None:
    with (
        unfinished(tmp_path, clock=lambda: 0.0, say=lambda _: None),
        pytest.raises(TrainingUnderWay, match=f"process {os.getpid()} is training in"),
        unfinished(tmp_path, clock=lambda: 0.0, say=lambda _: None),
    ):
        pass


def test_a_killed_process_lets_go_of_the_folder(tmp_path: Path) -> None:
    hold = f"""
import os, signal
from pathlib import Path
from service.unfinished import unfinished
with unfinished(Path({str(tmp_path)!r}), clock=lambda: 0.0, say=print):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", hold], check=False).returncode == -signal.SIGKILL

    with unfinished(tmp_path, clock=lambda: 0.0, say=lambda _: None) as one:
        assert one.asked is None


def test_a_checkpoint_is_due_after_a_minute_and_never_takes_more_than_a_twentieth_of_the_time() -> None:
    now = [0.0]
    due = Due(lambda: now[0])

    def asked(at: float) -> bool:
        now[0] = at
        return due()

    assert not asked(LEAST_EVERY_S - 1)
    assert asked(LEAST_EVERY_S)
    assert not asked(LEAST_EVERY_S + 10)  # it took 10 s, so the next is due 200 s later
    assert not asked(LEAST_EVERY_S + 209)
    assert asked(LEAST_EVERY_S + 210)


def test_a_clock_that_was_set_back_keeps_no_checkpoint_away_for_long() -> None:
    times = iter([86_400.0, 0.0, LEAST_EVERY_S - 1, LEAST_EVERY_S])
    due = Due(lambda: next(times))
    assert [due() for _ in range(3)] == [False, False, True]
