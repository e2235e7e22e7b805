"""The command line as a person uses it: in process, on homes of its own, with the environment as an argument."""

import json
import shutil
import socket
from pathlib import Path
from typing import Any

import pytest

from model.data.dataset import write
from model.data.synthetic import SyntheticConfig, dataset, generate
from service import cli
from tests.service.command_line import Run, refusal, run_on
from tests.service.store_front import LIVE, PASSED, REJECTED

TRAINING = "{params: {hidden: [16], dim: 8}, epochs: 3, batch_size: 256}"


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic store's log as someone would hand it in."""
    folder = tmp_path_factory.mktemp("log")
    world = generate(SyntheticConfig.small())
    for name, frame in (("events", world.events), ("apps", world.apps), ("users", world.users)):
        frame.write_parquet(folder / f"{name}.parquet")
    (folder / "training.yaml").write_text(TRAINING)
    shutil.copy(Path("examples/schema.yaml"), folder / "schema.yaml")
    return folder


def test_a_log_becomes_a_live_version_in_three_verbs(log: Path, tmp_path: Path) -> None:
    run = run_on(tmp_path / "home")
    assert run("import", "parquet", str(log)).exit_code == 0
    trained = run("train", "--config", str(log / "training.yaml"))
    version = trained.stdout.strip()
    assert f"{version} is live" in run("promote", version).stdout
    (listed,) = json.loads(run("versions", "--json").stdout)
    assert (listed["version"], listed["state"]) == (version, "live")
    agreed = {check["name"]: check["outcome"] for check in listed["report"]["checks"]}["order_agreement"] == "passed"
    assert listed["precision"] == ("fast" if agreed else "exact")
    assert 0.5 < listed["metrics"]["auc"] < 1
    assert listed["report"]["against"] == "popularity"


def test_training_says_how_it_goes_beside_its_result(log: Path, tmp_path: Path) -> None:
    run = run_on(tmp_path / "home")
    run("import", "parquet", str(log))
    trained = run("train", "--config", str(log / "training.yaml"), "--epochs", "1", "--json")
    assert "epoch 1/1: loss" in trained.stderr
    assert json.loads(trained.stdout)["state"] == "challenger"


def test_an_import_tells_what_was_good_and_what_will_be_learned_from(log: Path, tmp_path: Path) -> None:
    shown = run_on(tmp_path / "home")("import", "parquet", str(log)).stdout
    assert "apps.parquet: 120 of 120 rows are good" in shown
    assert "rows to learn from: train " in shown
    assert "schema.yaml" in shown


def test_an_import_into_the_home_of_a_demo_is_refused(log: Path, tmp_path: Path) -> None:
    run = run_on(tmp_path / "home")
    write(dataset(SyntheticConfig.small())[0], tmp_path / "home" / "data")
    assert "holds the demo" in refusal(run("import", "parquet", str(log)))


def test_a_servers_job_worker_makes_no_empty_home_where_that_of_its_server_is_gone(tmp_path: Path) -> None:
    home = tmp_path / "home"
    assert "mount it or move it back" in refusal(run_on(home)("worker", "--until-eof", "--burst"))
    assert not home.exists()


def test_an_import_counts_its_faults_as_json(log: Path, tmp_path: Path) -> None:
    result = run_on(tmp_path / "home")("import", "parquet", str(log), "--json")
    assert json.loads(result.stdout)["fault_count"] == 0


def test_on_a_terminal_training_shows_a_bar(log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = run_on(tmp_path / "home")
    run("import", "parquet", str(log))
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = run("train", "--config", str(log / "training.yaml"), "--epochs", "2").stderr
    assert "epoch 2/2" in shown
    assert "━" in shown
    assert "epoch 1/2: loss" not in shown


def test_a_draft_is_printed_and_can_be_imported_with(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "drafted.yaml"
    run = run_on(tmp_path / "home")
    run("draft", str(log), "--out", str(out))
    assert run("draft", str(log)).stdout == out.read_text()
    assert "daytime" in out.read_text()


def test_versions_are_listed_oldest_first(run: Run) -> None:
    listed = [entry["version"] for entry in json.loads(run("versions", "--json").stdout)]
    assert listed == sorted(listed)
    assert listed[0] == LIVE


def test_versions_are_shown_with_their_states(run: Run) -> None:
    shown = run("versions").stdout
    assert LIVE in shown
    assert "rejected" in shown


def test_a_rejected_version_is_not_promoted_and_the_failed_check_is_named(run: Run) -> None:
    result = run("promote", REJECTED)
    assert result.exit_code == 1
    assert "auc" in refusal(result)


def test_force_needs_a_reason(run: Run) -> None:
    assert "reason" in refusal(run("promote", REJECTED, "--force"))


def test_a_forced_promote_with_a_reason_goes_live(run: Run) -> None:
    assert run("promote", REJECTED, "--force", "--reason", "live is on fire").exit_code == 0
    assert states(run)[REJECTED] == "live"


def test_a_rollback_takes_the_version_before(run: Run) -> None:
    run("promote", PASSED)
    rolled = run("rollback", "--reason", "worse than thought", "--json")
    assert json.loads(rolled.stdout) == {"version": LIVE, "processes": {}}


def test_a_reason_with_bytes_that_are_no_text_is_kept_without_them(run: Run) -> None:
    assert run("promote", PASSED, "--reason", "good \udcff").exit_code == 0
    assert states(run)[PASSED] == "live"


def test_the_gate_shows_its_checks_and_exits_with_1_on_a_rejection(run: Run, home: Path) -> None:
    (home / "bundles" / REJECTED / "weights.safetensors").write_bytes(b"")
    result = run("gate", REJECTED)
    assert result.exit_code == 1
    assert "integrity" in result.stdout
    assert f"{REJECTED} was rejected" in result.stdout


def test_the_gate_reports_as_json(run: Run, home: Path) -> None:
    (home / "bundles" / REJECTED / "manifest.json").unlink()
    report = json.loads(run("gate", REJECTED, "--json").stdout)
    assert report["passed"] is False
    assert "failed" in {check["outcome"] for check in report["checks"]}


@pytest.mark.parametrize(
    "verb",
    [
        ("gate", "../x"),
        ("gate", "\udcff"),
        ("promote", "../x"),
        ("promote", "\udcff"),
        ("promote", "20260202T000000Z-cccccc"),
    ],
)
def test_a_version_that_does_not_exist_is_refused_in_one_sentence(run: Run, verb: tuple[str, str]) -> None:
    assert "not in the registry" in refusal(run(*verb))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("train", "--recipe", "magic"), "no recipe 'magic'"),
        (("train", "--arch", "magic"), "no architecture 'magic'"),
        (("train", "--config", "nowhere.yaml"), "nowhere.yaml"),
        (("train", "--epochs", "0"), "training option epochs"),
        (("import", "csv", "nowhere.csv"), "nowhere.csv"),
        (("import", "csv", "nowhere.csv", "--schema", "no.yaml"), "nowhere.csv"),
        (("draft", "nowhere"), "nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(run: Run, arguments: tuple[str, ...], sentence: str) -> None:
    refused = refusal(run(*arguments))
    assert sentence in refused
    assert "\n" not in refused


def test_a_file_that_is_no_training_configuration_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "list.yaml").write_text("[1, 2]")
    assert "holds a list where options by name are wanted" in refusal(
        run("train", "--config", str(tmp_path / "list.yaml"))
    )


def test_arch_is_short_for_architecture_in_a_file_too(run: Run, tmp_path: Path) -> None:
    (tmp_path / "train.yaml").write_text("arch: magic")
    assert "no architecture 'magic'" in refusal(run("train", "--config", str(tmp_path / "train.yaml")))


def test_a_configuration_that_is_not_utf8_is_refused_in_one_sentence(run: Run, tmp_path: Path) -> None:
    (tmp_path / "latin.yaml").write_bytes("recipe: paper # für später".encode("latin-1"))
    refused = refusal(run("train", "--config", str(tmp_path / "latin.yaml")))
    assert "not UTF-8" in refused
    assert "latin.yaml" in refused


def test_training_learns_on_from_live_and_says_so(run: Run) -> None:
    trained = run("train", "--epochs", "1", "--json")
    assert f"training on from {LIVE}, which is live" in trained.stderr
    assert "epoch 0/1: log loss" in trained.stderr
    assert json.loads(trained.stdout)["parent"] == LIVE


def test_training_begins_from_scratch_where_it_is_told_to(run: Run) -> None:
    trained = run("train", "--scratch", "--epochs", "1", "--json")
    assert "training from scratch, as asked" in trained.stderr
    assert json.loads(trained.stdout)["parent"] is None


def test_training_begins_from_scratch_where_live_is_another_network(run: Run, tmp_path: Path) -> None:
    (tmp_path / "small.yaml").write_text("{params: {hidden: [3]}, epochs: 1}")
    trained = run("train", "--config", str(tmp_path / "small.yaml"), "--json")
    assert f"training from scratch, since live, {LIVE}, has other layers" in trained.stderr
    assert json.loads(trained.stdout)["parent"] is None


def test_training_can_learn_on_from_any_version(run: Run) -> None:
    words = ("--reset-optimizer", "--compact", "--epochs", "1")
    trained = run("train", "--from", PASSED, *words)
    version = trained.stdout.strip()
    assert f"trained on from {PASSED}" in trained.stderr
    assert "optimizer state reset" in trained.stderr
    assert json.loads(run("versions", "--json").stdout)[-1]["version"] == version


def test_training_from_scratch_from_a_version_is_refused(run: Run) -> None:
    assert "--scratch" in refusal(run("train", "--scratch", "--from", "live"))


def test_learning_on_from_live_where_nothing_is_live_is_refused(log: Path, tmp_path: Path) -> None:
    run = run_on(tmp_path / "home")
    run("import", "parquet", str(log))
    assert "nothing is live" in refusal(run("train", "--from", "live"))


def test_an_unknown_setting_is_refused(run: Run) -> None:
    assert "APPSHELF_PORT" in refusal(run("versions", APPSHELF_PROT="1"))


def test_the_settings_are_shown_with_keys_masked(run: Run) -> None:
    rows = json.loads(run("config", "show", "--json", APPSHELF_RANK_KEY="hush", APPSHELF_PORT="8011").stdout)
    shown = {row["name"]: row["value"] for row in rows}
    assert shown["APPSHELF_PORT"] == "8011"
    assert "hush" not in shown["APPSHELF_RANK_KEY"]


def test_settings_that_a_server_would_refuse_are_named(run: Run) -> None:
    assert run("config", "check").exit_code == 0
    assert "APPSHELF_RANK_KEY" in refusal(run("config", "check", APPSHELF_HOST="0.0.0.0"))
    assert "APPSHELF_REDIS_URL" in refusal(run("config", "check", APPSHELF_REDIS_URL="http://redis"))
    assert "APPSHELF_BUNDLES_URL" in refusal(run("config", "check", APPSHELF_BUNDLES_URL="nowhere://bucket"))
    elsewhere = {"APPSHELF_REDIS_URL": "redis://127.0.0.1:1", "APPSHELF_BUNDLES_URL": "file:///nowhere"}
    assert run("config", "check", **elsewhere).exit_code == 0


def test_what_the_homes_file_sets_is_shown_as_the_files_and_checked(tmp_path: Path) -> None:
    run = run_on(tmp_path)
    (tmp_path / "settings.json").write_text('{"workers": 2}')
    rows = {row["name"]: row for row in json.loads(run("config", "show", "--json").stdout)}
    assert (rows["APPSHELF_WORKERS"]["value"], rows["APPSHELF_WORKERS"]["source"]) == ("2", "file")
    assert run("config", "check").exit_code == 0
    (tmp_path / "settings.json").write_text('{"workers": 0}')
    assert f"{tmp_path / 'settings.json'}: workers does not allow 0" in refusal(run("config", "check"))


def test_a_demo_does_not_write_over_imported_data(tmp_path: Path, log: Path) -> None:
    run = run_on(tmp_path / "home")
    run("import", "parquet", str(log))
    assert "holds data of parquet" in refusal(run("demo", "--port", "0"))


def test_a_demo_finds_its_address_taken_before_it_trains(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        refused = refusal(run_on(tmp_path / "home")("demo", "--port", str(taken.getsockname()[1])))
    assert "cannot listen" in refused
    assert not (tmp_path / "home").exists()


def test_wrong_usage_exits_with_2(run: Run) -> None:
    assert run("import", "xlsx", "log.xlsx").exit_code == 2
    assert run("nonsense").exit_code == 2


@pytest.mark.parametrize("verb", [*cli.VERBS, "config"])
def test_every_verb_has_help(run: Run, verb: str) -> None:
    result = run(verb, "--help", APPSHELF_PORT="not even a number")
    assert result.exit_code == 0
    assert "Usage" in result.output


def test_a_refusal_is_one_line_on_standard_error_and_exit_code_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], home: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["appshelf", "gate", "../x"])
    monkeypatch.setenv("APPSHELF_HOME", str(home))
    with pytest.raises(SystemExit) as ended:
        cli.main()
    shown = capsys.readouterr()
    assert ended.value.code == 1
    assert shown.err.startswith("appshelf: version '../x'")
    assert shown.err.count("\n") == 1
    assert shown.out == ""


def states(run: Run) -> dict[str, Any]:
    """Each version's state."""
    return {entry["version"]: entry["state"] for entry in json.loads(run("versions", "--json").stdout)}
