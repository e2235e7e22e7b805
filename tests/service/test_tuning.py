"""A study: what it tries, what it never reads, and that it goes on after whatever ended it."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

from model.data.dataset import Dataset, read
from model.training import Progress, TrainConfig
from service import tuning
from service.lifeline import ROOT, with_this_code
from service.tuning import Bounds, Search, StudyInUse, StudyOfOther, StudyUnreadable, Tried, Tuner, opened

GIVEN: dict[str, Any] = {
    "architecture": "wide_deep",
    "recipe": "adam",
    "seed": 3,
    "params": {"hidden": [4], "dim": 2, "batch_norm": False},
    "epochs": 3,
    "batch_size": 128,
}


@pytest.fixture
def data(home: Path) -> Dataset:
    return read(home / "data")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "studies" / "one.sqlite"


def bounds(trials: int, *, timeout_s: float | None = None) -> Bounds:
    ticks = count()
    return Bounds(trials, timeout_s, lambda: float(next(ticks)))


def run(tuner: Tuner, trials: int) -> list[Tried]:
    tuner.run(bounds(trials), tell=lambda one: None, step=lambda step: None)
    return tuner.tried()


def essence(tried: list[Tried]) -> list[tuple[object, ...]]:
    """Trials without their numbers and times."""
    return [(one.state, one.auc, one.config) for one in tried]


def test_the_best_trial_is_the_complete_one_with_the_highest_auc(file: Path, data: Dataset) -> None:
    with opened(file, Search(GIVEN, data)) as tuner:
        told: list[Tried] = []
        tuner.run(bounds(4), tell=told.append, step=lambda step: None)
        best = tuner.best()
        assert tuner.tried() == told
    assert best is not None
    assert best.auc == max(one.auc or 0 for one in told if one.state == "complete")
    assert best.config["params"]["hidden"] == [4]
    assert {"rate", "embedding_l2"} <= set(best.config["recipe_options"])


def test_the_gate_split_is_never_read(file: Path, data: Dataset, tmp_path: Path) -> None:
    flipped = (pl.col("split") == "gate").cast(pl.Int8)
    label = ((pl.col("label") + flipped) % 2).cast(pl.Int8)
    other = replace(data, examples=data.examples.with_columns(label=label))
    tried = []
    for place, dataset in enumerate((data, other)):
        with opened(tmp_path / f"{place}.sqlite", Search(GIVEN, dataset)) as tuner:
            tried.append(essence(run(tuner, 2)))
    assert tried[0] == tried[1]


def test_a_study_that_is_opened_again_goes_on_as_one_that_was_not_closed(file: Path, data: Dataset) -> None:
    search = Search(GIVEN, data)
    with opened(file, search) as tuner:
        run(tuner, 2)
    with opened(file, search) as tuner:
        halves = run(tuner, 4)
    with opened(file.with_name("other.sqlite"), search) as tuner:
        assert essence(run(tuner, 4)) == essence(halves)
    assert len({str(one.config) for one in halves}) == 4


def test_ctrl_c_loses_the_running_trial_and_no_other(file: Path, data: Dataset) -> None:
    def interrupted(step: Progress) -> None:
        raise KeyboardInterrupt

    search = Search(GIVEN, data)
    with opened(file, search) as tuner:
        first = run(tuner, 1)
        for _ in range(tuning.AT_MOST_LOST + 1):  # however often a person does it, the trial is not to blame
            with pytest.raises(KeyboardInterrupt):
                tuner.run(bounds(2), tell=lambda one: None, step=interrupted)
        assert tuner.tried() == first
        assert [one.state for one in run(tuner, 2)] == ["complete", "complete"]


def test_a_trial_that_ends_its_process_again_and_again_is_left_out(file: Path, data: Dataset) -> None:
    class Killed(BaseException):
        """Not known to the search, as a kill is not."""

    def killed(step: Progress) -> None:
        raise Killed

    for _ in range(tuning.AT_MOST_LOST):
        with opened(file, Search(GIVEN, data)) as tuner, pytest.raises(Killed):
            tuner.run(bounds(1), tell=lambda one: None, step=killed)
    with opened(file, Search(GIVEN, data)) as tuner:
        (left_out,) = run(tuner, 1)
    assert left_out.state == "failed"
    assert "killed 3 times" in left_out.why


def test_a_trial_that_fails_is_kept_with_its_reason_and_the_next_goes_on(file: Path, data: Dataset) -> None:
    given = {**GIVEN, "recipe": "paper", "recipe_options": {"rate": 1e30}}
    with opened(file, Search(given, data)) as tuner:
        tried = run(tuner, 2)
        assert tuner.best() is None
    assert [one.state for one in tried] == ["failed", "failed"]
    assert "the loss became" in tried[0].why
    assert tried[0].auc is None


def test_a_trial_behind_the_others_is_ended_early(file: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = iter([0.9] * tuning.STARTUP + [0.6])
    begun = []

    def train(config: TrainConfig, dataset: Dataset, *, progress: Callable[[Progress], None]) -> SimpleNamespace:
        auc = next(reached)
        for epoch in range(1, 5):
            begun.append(epoch)
            progress(Progress(epoch, 4, 1, 1, 0.5, None if epoch == 1 else auc))
            progress(Progress(epoch, 4, 1, 1, 0.5, 0.0, "pretraining"))
        return SimpleNamespace(metrics={"auc": auc})

    monkeypatch.setattr(tuning, "train", train)
    with opened(file, Search(GIVEN, data)) as tuner:
        *others, last = run(tuner, tuning.STARTUP + 1)
    assert {one.state for one in others} == {"complete"}
    assert (last.state, last.auc) == ("pruned", 0.6)
    assert last.why == "behind the median after epoch 2"
    assert begun[-3:] == [1, 2, 3]


def test_no_trial_is_begun_once_the_time_is_over(file: Path, data: Dataset) -> None:
    with opened(file, Search(GIVEN, data)) as tuner:
        tuner.run(bounds(50, timeout_s=5.0), tell=lambda one: None, step=lambda step: None)
        assert 0 < len(tuner.tried()) < 5


@pytest.mark.parametrize(
    ("given", "differing"),
    [
        ({"epochs": 4}, r"\(option epochs was 3 and is 4\)"),
        ({"seed": 4}, r"\(option seed was 3 and is 4\)"),
        ({"recipe": "paper"}, r"option recipe was \"adam\" and is \"paper\"; range of recipe_options.alpha was null"),
        ({"patience": 1}, "option patience was null and is 1"),
    ],
)
def test_a_study_of_something_else_is_refused_with_what_differs(
    file: Path, data: Dataset, given: dict[str, Any], differing: str
) -> None:
    with opened(file, Search(GIVEN, data)) as tuner:
        run(tuner, 1)
    with pytest.raises(StudyOfOther, match=differing), opened(file, Search({**GIVEN, **given}, data)):
        pass


def test_a_study_without_a_trial_is_of_whatever_comes_next(file: Path, data: Dataset) -> None:
    with opened(file, Search(GIVEN, data)):
        pass
    with opened(file, Search({**GIVEN, "epochs": 1}, data)) as tuner:
        run(tuner, 1)
    with pytest.raises(StudyOfOther, match="option epochs was 1 and is 3"), opened(file, Search(GIVEN, data)):
        pass


def test_a_study_of_another_release_is_refused(file: Path, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(file, Search(GIVEN, data)) as tuner:
        run(tuner, 1)
    monkeypatch.setattr(tuning, "software_version", lambda: "99")
    with pytest.raises(StudyOfOther, match=r"\(release was .* and is \"99\"\)"), opened(file, Search(GIVEN, data)):
        pass


def test_a_seed_may_be_of_any_size(file: Path, data: Dataset) -> None:
    with opened(file, Search({**GIVEN, "seed": 20261121}, data)) as tuner:
        assert [one.state for one in run(tuner, 1)] == ["complete"]


def test_a_study_of_other_data_is_refused(file: Path, data: Dataset) -> None:
    with opened(file, Search(GIVEN, data)) as tuner:
        run(tuner, 1)
    fewer = replace(data, examples=data.examples.head(1000))
    with pytest.raises(StudyOfOther, match=r"\(data was"), opened(file, Search(GIVEN, fewer)):
        pass


def test_a_study_is_one_processs_at_a_time(file: Path, data: Dataset) -> None:
    with opened(file, Search(GIVEN, data)), pytest.raises(StudyInUse), opened(file, Search(GIVEN, data)):
        pass
    with opened(file, Search(GIVEN, data)):
        pass


def test_a_file_that_is_no_study_is_refused(file: Path, data: Dataset) -> None:
    file.parent.mkdir()
    file.write_bytes(b"not a database, and long enough to be seen as none" * 40)
    with pytest.raises(StudyUnreadable, match="cannot be read"), opened(file, Search(GIVEN, data)):
        pass


CODE = """
import sys, time
from pathlib import Path
from model.data.dataset import read
from service.tuning import Bounds, Search, opened
from tests.service.test_tuning import GIVEN

def slow(step):
    if begun and step.epoch == 2:
        print("in the middle", flush=True)
        time.sleep(600)

begun = []
with opened(Path(sys.argv[2]), Search(GIVEN, read(Path(sys.argv[1])))) as tuner:
    tuner.run(Bounds(3, None, time.monotonic), tell=begun.append, step=slow)
"""


def test_a_study_whose_process_was_killed_goes_on_as_if_it_had_not_been(file: Path, data: Dataset, home: Path) -> None:
    command = [sys.executable, "-c", CODE, str(home / "data"), str(file)]
    environ = with_this_code({**os.environ, "OMP_NUM_THREADS": "1"})
    with subprocess.Popen(command, env=environ, cwd=ROOT, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"in the middle\n"
        process.send_signal(signal.SIGKILL)
    search = Search(GIVEN, data)
    with opened(file, search) as tuner:
        assert len(tuner.tried()) == 1
        resumed = run(tuner, 3)
    with opened(file.with_name("other.sqlite"), search) as tuner:
        assert essence(run(tuner, 3)) == essence(resumed)
