"""`appshelf tune` as a person uses it."""

import json
from pathlib import Path

import pytest
import yaml

from service.tuning import Tuner
from tests.service.command_line import Run, refusal

SETTLED = "{params: {hidden: [4], dim: 2}, epochs: 1, batch_size: 256}"


@pytest.fixture
def settled(tmp_path: Path) -> str:
    (tmp_path / "settled.yaml").write_text(SETTLED)
    return str(tmp_path / "settled.yaml")


def test_the_best_configuration_is_printed_written_and_taken_by_train(run: Run, settled: str, tmp_path: Path) -> None:
    best = tmp_path / "best.yaml"
    words = ("tune", "--config", settled, "--recipe", "adam", "--trials", "2")
    found = run(*words, "--out", str(best))
    assert found.exit_code == 0, found.output
    assert "trial 2 of 2 complete: auc" in found.stderr
    config = yaml.safe_load(found.stdout)
    assert config == yaml.safe_load(best.read_text())
    assert config["params"]["hidden"] == [4]
    assert config["recipe_options"]
    trained = run("train", "--scratch", "--config", str(best), "--json")
    auc = json.loads(trained.stdout)["metrics"]["auc"]
    again = run(*words, "--json")
    assert "going on with the study" in again.stderr
    told = json.loads(again.stdout)
    assert told["best"]["auc"] == auc
    assert [one["state"] for one in told["trials"]] == ["complete", "complete"]
    assert "(option epochs was 1 and is 2)" in refusal(run(*words, "--epochs", "2"))


def test_ctrl_c_leaves_the_study_and_says_how_to_go_on(run: Run, settled: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(self: Tuner, *arguments: object, **named: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Tuner, "run", interrupted)
    cut = run("tune", "--config", settled)
    assert cut.exit_code == 130
    assert "the same command goes on" in cut.stderr


def test_a_search_in_which_nothing_was_completed_says_why(run: Run, tmp_path: Path) -> None:
    (tmp_path / "mad.yaml").write_text("{params: {hidden: [4]}, epochs: 1, recipe_options: {rate: 1.0e+30}}")
    refused = refusal(run("tune", "--config", str(tmp_path / "mad.yaml"), "--trials", "1"))
    assert "the loss became" in refused


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--arch", "magic"), "no architecture 'magic'"),
        (("--recipe", "magic"), "no recipe 'magic'"),
        (("--epochs", "0"), "training option epochs"),
        (("--config", "nowhere.yaml"), "nowhere.yaml"),
        (("--study", "../x"), "cannot be named '../x'"),
        (("--out", "nowhere/best.yaml"), "there is no folder nowhere"),
        (("--out", str(Path(__file__).parent)), "is a folder; name a file, such as"),
    ],
)
def test_what_cannot_be_tuned_is_said_in_one_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    refused = refusal(run("tune", *arguments))
    assert sentence in refused
    assert "\n" not in refused


def test_without_optuna_it_says_how_to_install_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> object:
        raise ModuleNotFoundError(f"No module named 'optuna', wanted by {name}", name="optuna")

    monkeypatch.setattr("service.commands.tune.import_module", missing)
    assert refusal(run("tune")) == "tune needs optuna, which is not installed; `pip install 'appshelf[tune]'`"
