import json
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import torch

from model.bundle import Bundle, load
from model.data.dataset import read, write
from model.data.synthetic import SyntheticConfig, dataset
from model.metrics import auc
from model.scorer import Scorer
from model.training import predict
from tests.service.distributed.torchrun import ROOT, environment, finished, process_of, require_extra, soon, torchrun

pytestmark = pytest.mark.e2e
CONFIG = """
recipe: paper
recipe_options: {alpha: 0.1, l1: 30.0, rate: 0.05}
params: {dim: 8, hidden: [32, 16], batch_norm: true, dropout: 0.2}
batch_size: 256
epochs: 3
precision: float32
"""
NOISE = 0.03
"""How far the AUC of two trainings on this log may lie apart; its stop split has some 200 positives."""
VERSION = re.compile(r"^\d{8}T\d{6}Z-[0-9a-f]+$", re.MULTILINE)


@pytest.fixture(scope="module")
def sharded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with a log and its shards."""
    require_extra()
    home = tmp_path_factory.mktemp("sharded") / "home"
    home.mkdir()
    write(dataset(SyntheticConfig.small())[0], home / "data")
    (home / "config.yaml").write_text(CONFIG, encoding="utf-8")
    appshelf(home, "shard", "--count", "6")
    return home


@pytest.fixture
def home(sharded: Path, tmp_path: Path) -> Path:
    """One of a test's own."""
    return Path(shutil.copytree(sharded, tmp_path / "home"))


@pytest.fixture(scope="module")
def whole(sharded: Path, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """What two ranks make of it when nothing happens to them."""
    home = shutil.copytree(sharded, tmp_path_factory.mktemp("whole") / "home")
    return trained(home, finished(training(home), APPSHELF_HOME=str(home)))


def appshelf(home: Path, *words: str) -> str:
    ran = finished([sys.executable, "-m", "service", *words], APPSHELF_HOME=str(home))
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def training(home: Path, *more: str, ranks: int = 2, options: Sequence[str] = ("--standalone",)) -> list[str]:
    config = ["--config", str(home / "config.yaml"), "--every", "5"]
    return torchrun(ranks, "service.distributed", *config, *more, options=options)


def trained(home: Path, ran: "subprocess.CompletedProcess[str]") -> Bundle:
    """The bundle of the version that was printed."""
    found = VERSION.search(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert found, ran.stderr
    return load(home / "bundles" / found.group(), optimizer=True)


@pytest.fixture
def under_way(home: Path) -> Iterator["subprocess.Popen[str]"]:
    """Two ranks that are restarted up to three times, past their first checkpoint."""
    command = training(home, options=("--standalone", "--max-restarts", "3"))
    agent = subprocess.Popen(
        command, env=environment({"APPSHELF_HOME": str(home)}), cwd=ROOT, text=True, stdout=-1, stderr=-1
    )
    try:
        assert soon(lambda: agent.poll() is not None or any(home.glob("runs/*/latest/facts.json")))
        yield agent
    finally:
        if agent.poll() is None:
            agent.terminate()
            agent.communicate()


def test_two_ranks_make_an_ordinary_bundle_as_good_as_one_process_makes(
    sharded: Path, whole: Bundle, home: Path
) -> None:
    version = appshelf(home, "train", "--scratch", "--config", str(home / "config.yaml")).strip()
    alone = load(home / "bundles" / version)

    data = read(sharded / "data")
    scores = predict(Scorer.of(whole), data, "stop")
    label = data.examples.filter(data.examples["split"] == "stop")["label"].to_numpy().astype(float)

    assert auc(label, scores) == pytest.approx(whole.manifest.metrics["auc"], abs=1e-9)
    assert whole.manifest.metrics["auc"] == pytest.approx(alone.manifest.metrics["auc"], abs=NOISE)
    assert {name: tensor.shape for name, tensor in whole.weights.items()} == {
        name: tensor.shape for name, tensor in alone.weights.items()
    }
    assert {name: value.shape for name, value in (whole.optimizer or {}).items()} == {
        name: value.shape for name, value in (load(home / "bundles" / version, optimizer=True).optimizer or {}).items()
    }


def test_the_gate_judges_it_and_one_machine_learns_on_from_it(home: Path) -> None:
    version = trained(home, finished(training(home), APPSHELF_HOME=str(home))).manifest.version

    report = json.loads(appshelf(home, "gate", version, "--json"))
    assert report["passed"]
    passed = {check["name"] for check in report["checks"] if check["outcome"] == "passed"}
    assert {"integrity", "golden_scores", "auc", "calibration"} <= passed

    learned = appshelf(home, "train", "--from", version, "--epochs", "1").strip()

    assert load(home / "bundles" / learned).manifest.parent == version
    assert not any((home / "runs").iterdir())


def test_a_rank_killed_in_the_middle_is_started_again_and_ends_as_if_nothing_had_been(
    under_way: "subprocess.Popen[str]", home: Path, whole: Bundle
) -> None:
    process_of(under_way, rank=1).send_signal(signal.SIGKILL)
    out, err = under_way.communicate()

    found = VERSION.search(out)
    assert under_way.returncode == 0, err
    assert found, err
    again = load(home / "bundles" / found.group())
    assert all(torch.equal(again.weights[name], value) for name, value in whole.weights.items())


def test_a_run_that_was_killed_whole_is_gone_on_with_by_another_number_of_ranks(
    under_way: "subprocess.Popen[str]", home: Path, whole: Bundle
) -> None:
    for rank in (0, 1):
        process_of(under_way, rank).send_signal(signal.SIGSTOP)
    (latest,) = home.glob("runs/*/latest/facts.json")
    done = json.loads(latest.read_text(encoding="utf-8"))
    ranks = [process_of(under_way, rank) for rank in (0, 1)]
    under_way.kill()
    for process in ranks:
        process.kill()
    under_way.communicate()

    ran = finished(training(home, ranks=3), APPSHELF_HOME=str(home))

    assert done["step"] > 0 or done["epoch"] > 1
    assert trained(home, ran).manifest.metrics["auc"] == pytest.approx(whole.manifest.metrics["auc"], abs=NOISE)


def test_a_rank_that_dies_is_named_with_its_exit_code(home: Path) -> None:
    agent = subprocess.Popen(
        training(home), env=environment({"APPSHELF_HOME": str(home)}), cwd=ROOT, text=True, stdout=-1, stderr=-1
    )
    assert soon(lambda: agent.poll() is not None or any(home.glob("runs/*/latest/facts.json")))
    process_of(agent, rank=1).send_signal(signal.SIGKILL)
    _, err = agent.communicate()

    assert agent.returncode != 0
    assert re.search(r"rank\s+: 1.*\n\s+exitcode\s+: -9", err)


@pytest.mark.parametrize(
    ("ranks", "more", "told"),
    [
        (7, "", r"rank \d of 7: .* 6 shards for 7 ranks; run `appshelf shard --count 28`"),
        (2, "batch_size: 1", "a batch of 1 rows is too few for 2 ranks"),
        (2, "device: cuda", "device cuda is for one machine"),
        (2, "architecture: fnn\nparams: {dim: 4, hidden: [8]}", "fnn has pretrain_epochs 10: it begins from an fm"),
    ],
)
def test_what_cannot_be_trained_so_is_refused_by_name(home: Path, ranks: int, more: str, told: str) -> None:
    given = {line.partition(":")[0] for line in more.splitlines()}
    kept = [line for line in CONFIG.splitlines() if line.partition(":")[0] not in given]
    (home / "config.yaml").write_text("\n".join([*kept, more]), encoding="utf-8")

    ran = finished(training(home, ranks=ranks), APPSHELF_HOME=str(home))

    assert ran.returncode != 0
    assert re.search(told, ran.stderr)
