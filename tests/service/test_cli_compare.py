"""`appshelf compare` as a person uses it; what trains is a real child process."""

import json
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from model.training import Progress
from service.comparing import runs
from service.comparing.runs import RunFailed, train_apart
from tests.service.command_line import Run, refusal, run_on
from tests.service.store_front import LIVE

CONTESTANTS = """
defaults: {params: {hidden: [4], dim: 2}, epochs: 1, batch_size: 256}
contestants:
  - name: wide_deep
  - {name: broken, arch: wide_deep, recipe_options: {rate: 1.0e+30}}
"""


@pytest.fixture
def contestants(tmp_path: Path) -> str:
    (tmp_path / "compare.yaml").write_text(CONTESTANTS)
    return str(tmp_path / "compare.yaml")


def test_a_comparison_is_a_table_a_page_and_a_challenger_and_ends_with_1_where_one_failed(
    run: Run, contestants: str, tmp_path: Path
) -> None:
    words = ("compare", "--config", contestants, "--out", str(tmp_path / "out"))
    first = run(*words, "--keep", "wide_deep")
    assert first.exit_code == 1, first.output
    assert "wide_deep *" in first.stdout
    assert "epoch 1/1: loss" in first.stderr
    assert "broken failed: seed 0: the loss became" in first.stderr
    assert (tmp_path / "out" / "comparison.html").read_text().startswith("<!doctype html>")
    listed = json.loads(run("versions", "--json").stdout)
    assert listed[-1]["state"] == "challenger"
    assert listed[-1]["version"] in first.stdout
    assert {one["version"]: one["state"] for one in listed}[LIVE] == "live"
    again = run(*words, "--json")
    assert "wide_deep, seed 0: trained before" in again.stderr
    told = json.loads(again.stdout)
    assert told["finished"] is True
    assert [one["state"] for one in told["entries"]] == ["done", "failed"]
    assert told["entries"][0]["served"]["candidates"] == 30
    assert told["entries"][0]["standing"]["auc"]["around"]["low"] < told["entries"][0]["standing"]["auc"]["value"]
    assert json.loads((tmp_path / "out" / "comparison.json").read_text())["entries"] == told["entries"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[lr, fm]", "holds a list where options by name are wanted"),
        ("contestants: [{name: a, arch: lr, epoch: 3}]", "contestant 'a', option epoch: there is no such option"),
        ("contestants: [{name: a, arch: lr, params: {dim: 3}}]", "lr: dim: there is no such option; its parameters"),
        ("contestants: [{name: a, recipe_options: {l3: 1}}]", "recipe paper: l3: there is no such option; its options"),
        ("contestants: [", "is not a YAML file of options"),
    ],
)
def test_a_file_that_is_no_comparison_is_refused_in_one_sentence(
    run: Run, tmp_path: Path, text: str, sentence: str
) -> None:
    (tmp_path / "compare.yaml").write_text(text)
    refused = refusal(run("compare", "--config", str(tmp_path / "compare.yaml")))
    assert sentence in refused
    assert "\n" not in refused


def test_runs_of_former_comparisons_go_when_there_are_more_than_are_kept(run: Run, home: Path) -> None:
    words = ("compare", "--arch", "lr", "--epochs", "1", "--resamples", "20")
    assert "were removed" not in run(*words, APPSHELF_KEEP_RUNS="1").stderr
    (former,) = (home / "comparisons" / "runs").iterdir()
    again = run(*words, "--recipe", "adam", APPSHELF_KEEP_RUNS="1")
    assert "1 run(s) that were used longest ago were removed; APPSHELF_KEEP_RUNS says how many stay" in again.stderr
    assert [one == former for one in (home / "comparisons" / "runs").iterdir()] == [False]


def test_ctrl_c_leaves_what_is_done_and_says_how_to_go_on(
    run: Run, contestants: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(arguments: list[str], progress: Callable[[Progress], None]) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("service.comparing.course.train_apart", interrupted)
    cut = run("compare", "--config", contestants, "--out", str(tmp_path / "out"))
    assert cut.exit_code == 130
    assert "not run yet" in cut.stdout
    assert "Not finished" in (tmp_path / "out" / "comparison.html").read_text()
    assert "the same command goes on" in cut.stderr


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--arch", "magic"), "no architecture 'magic'"),
        (("--arch", ""), "no architecture ''"),
        (("--arch", "lr,lr"), "lr came twice"),
        (("--arch", "lr", "--out", "/proc/nowhere"), "cannot be written to /proc/nowhere"),
        (("--arch", "wide_deep", "--baseline", "x"), "the baseline 'x'"),
        (("--arch", "wide_deep", "--keep", "x"), "--keep 'x' is not among the contestants"),
        (("--arch", "wide_deep", "--seeds", "0"), "1 to 100"),
        (
            ("--arch", "wide_deep", "--epochs", "0"),
            "'wide_deep', option epochs: Input should be greater than or equal to 1, and not 0",
        ),
        (("--arch", "wide_deep", "--recipe", "adm"), "contestant 'wide_deep': no recipe 'adm'"),
        (("--arch", "wide_deep", "--out", __file__), "is a file; give it a folder"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("--config", "nowhere.yaml", "--arch", "lr"), "goes without --arch"),
    ],
)
def test_what_cannot_be_compared_is_said_in_one_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    refused = refusal(run("compare", *arguments))
    assert sentence in refused
    assert "\n" not in refused


def test_a_home_without_data_is_refused(tmp_path: Path) -> None:
    assert "holds no data yet" in refusal(run_on(tmp_path / "home")("compare"))


def test_a_process_that_is_killed_is_said_to_have_run_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    assert killed_by(f"import os; os.kill(os.getpid(), {signal.SIGKILL})", monkeypatch).startswith(
        "its process was killed"
    )


def test_a_process_that_crashes_has_its_last_words_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert killed_by("print('not json'); raise SystemError('no more')", monkeypatch) == (
        "its process ended with 1: SystemError: no more"
    )


def killed_by(code: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What is said of a child that does this instead of training."""
    command = [sys.executable, "-c", code]
    monkeypatch.setattr(runs, "command_of", lambda arguments: command)
    with pytest.raises(RunFailed) as failed:
        train_apart([], lambda step: None)
    return str(failed.value)
