"""A version's life, with the real gate and a real dry run."""

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.bundle import load, save
from model.data.dataset import DatasetError
from model.scorer import Scorer
from model.training import TrainConfig, TrainingFailed
from service.container import Container, build
from service.errors import GateRefused, NothingToRollBack, RolloutUnderWay, UnknownVersion
from service.lifecycle import enter_orphans, gate_version, promote_version, roll_back, train_version
from service.states import State
from service.store.ports import Note
from service.store.sqlite import Database
from service.store.sqlite_rollout import SqliteRolloutStore
from tests.service.store_front import LIVE, PASSED, REJECTED, settings

SMALL = TrainConfig(params={"hidden": [4]}, epochs=1, batch_size=256)
UNSEEN = "20260202T000000Z-cccccc"
NOTE = Note("test", "because")


def train(container: Container, config: TrainConfig = SMALL) -> str:
    return train_version(container, config, token="dddddd", progress=lambda _: None)


def truncate(container: Container, version: str) -> None:
    weights = container.home.bundles / version / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])


def test_a_trained_version_is_a_challenger_with_its_metrics(container: Container) -> None:
    entry = container.registry.get(train(container))
    assert entry.state is State.CHALLENGER
    assert 0 < entry.metrics["auc"] < 1


def test_a_trained_version_knows_its_data_and_settings(container: Container) -> None:
    manifest = load(container.home.bundles / train(container)).manifest
    assert manifest.sampling_rate == 0.25
    assert manifest.facts["source"] == "test"
    assert TrainConfig.model_validate(manifest.config) == SMALL


def test_golden_requests_hold_their_values_and_what_the_saved_net_scores(container: Container) -> None:
    bundle = load(container.home.bundles / train(container))
    scorer = Scorer.of(bundle)
    assert len(bundle.golden) == 16
    for golden in bundle.golden:
        again = scorer.score(golden.query, scorer.table(golden.apps), np.arange(len(golden.apps)))
        np.testing.assert_allclose(again, golden.scores, atol=1e-7)
    assert any("country" in golden.query.user for golden in bundle.golden)
    assert any("category" in app.features for golden in bundle.golden for app in golden.apps)


def test_training_sweeps_what_a_killed_one_left(container: Container) -> None:
    (container.home.bundles / f".{UNSEEN}.partial").mkdir()
    train(container)
    assert not list(container.home.bundles.glob(".*.partial"))


def test_a_bundle_whose_trainer_was_killed_before_entering_it_is_entered_later(container: Container) -> None:
    bundle = load(container.home.bundles / LIVE)
    save(replace(bundle, manifest=bundle.manifest.model_copy(update={"version": UNSEEN})), container.home.bundles)
    entered = enter_orphans(container)
    assert UNSEEN in entered
    assert container.registry.get(UNSEEN).state is State.CHALLENGER
    assert enter_orphans(container) == ()


def test_training_without_data_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    container = build(settings(tmp_path / "empty"))
    with pytest.raises(DatasetError, match="appshelf import"):
        train(container)
    assert container.registry.versions() == ()
    assert list(container.home.bundles.iterdir()) == []


def test_an_unknown_recipe_leaves_nothing(container: Container) -> None:
    before = container.registry.versions()
    with pytest.raises(TrainingFailed, match="no recipe 'magic'"):
        train(container, SMALL.model_copy(update={"recipe": "magic"}))
    assert container.registry.versions() == before


def test_the_gate_keeps_its_report_against_live(container: Container) -> None:
    version = train(container)
    report = gate_version(container, version)
    entry = container.registry.get(version)
    assert report.against == LIVE
    assert entry.report == report.to_json()
    assert entry.state is (State.PASSED if report.passed else State.REJECTED)
    assert {"integrity", "latency", "auc", "ndcg_at_10"} <= {check.name for check in report.checks}


def test_a_truncated_bundle_is_refused_by_name_and_live_serves_on(container: Container) -> None:
    version = train(container)
    truncate(container, version)
    with pytest.raises(GateRefused, match="integrity") as refused:
        promote_version(container, version, note=NOTE)
    assert "weights.safetensors" in str(refused.value.report.failures)
    assert container.registry.get(version).state is State.REJECTED
    assert container.registry.live() == LIVE


def test_popularity_stands_in_for_a_damaged_live_bundle_and_the_report_says_so(container: Container) -> None:
    version = train(container)
    truncate(container, LIVE)
    checks = {check.name: check for check in gate_version(container, version).checks}
    assert checks["live_on_holdout"].outcome == "skipped"
    assert LIVE in checks["live_on_holdout"].detail
    assert "auc" in checks


def test_a_version_judged_against_live_is_not_judged_again(container: Container) -> None:
    report = container.registry.get(PASSED).report
    promote_version(container, PASSED, note=NOTE)
    assert container.registry.live() == PASSED
    assert container.registry.get(PASSED).report == report


def test_without_a_name_the_newest_that_passed_is_promoted(container: Container) -> None:
    newest = container.registry.newest_passed()
    assert promote_version(container, None, note=NOTE).version == newest


def test_a_version_is_judged_again_when_live_has_moved(container: Container) -> None:
    promote_version(container, PASSED, note=NOTE)
    with suppress(GateRefused):
        promote_version(container, REJECTED, note=NOTE)
    assert container.registry.live_against(REJECTED) == PASSED


def test_a_rejected_version_is_refused_with_what_failed(container: Container) -> None:
    with pytest.raises(GateRefused, match="auc"):
        promote_version(container, REJECTED, note=NOTE)
    assert container.registry.live() == LIVE


def test_a_forced_promote_stands_in_the_history_with_its_reason(container: Container) -> None:
    promote_version(container, REJECTED, note=Note("ann", "live is on fire", force=True))
    moved = [entry for entry in container.registry.history() if entry.to is State.LIVE][-1]
    assert (moved.version, moved.who, moved.why, moved.forced) == (REJECTED, "ann", "live is on fire", True)


def test_promoting_what_is_live_changes_nothing(container: Container) -> None:
    before = container.registry.history()
    promote_version(container, LIVE, note=NOTE)
    assert container.registry.history() == before


def test_a_rollback_takes_the_version_before(container: Container) -> None:
    promote_version(container, PASSED, note=NOTE)
    assert roll_back(container, note=NOTE).version == LIVE
    assert container.registry.get(PASSED).state is State.RETIRED


def test_there_is_nothing_to_roll_back_to_at_first(container: Container) -> None:
    with pytest.raises(NothingToRollBack):
        roll_back(container, note=NOTE)


@pytest.mark.parametrize("version", ["../secrets", UNSEEN, ""])
def test_a_version_that_does_not_exist_is_refused(container: Container, version: str) -> None:
    with pytest.raises(UnknownVersion):
        gate_version(container, version)


@pytest.mark.e2e
def test_a_trainer_that_was_killed_leaves_nothing_and_the_next_one_trains(container: Container) -> None:
    before = container.registry.versions()
    command = [sys.executable, "-c", "from service.cli import main; main()", "train", "--epochs", "1000"]
    environ = {**os.environ, "APPSHELF_HOME": str(container.home.root)}
    with subprocess.Popen(command, env=environ, stderr=subprocess.PIPE, text=True) as trainer:
        assert trainer.stderr is not None
        assert "epoch 1/1000" in trainer.stderr.readline()
        trainer.kill()
    assert container.registry.versions() == before
    assert container.registry.get(train(container)).state is State.CHALLENGER


@pytest.mark.e2e
def test_a_promote_that_was_killed_leaves_live_serving_and_the_next_one_promotes(container: Container) -> None:
    database = Database(container.home.store)
    rollouts = SqliteRolloutStore(database, time.time)
    SqliteRolloutStore(database, lambda: time.time() + 3600).heartbeat("a process that never answers", LIVE)
    command = [sys.executable, "-c", "from service.cli import main; main()", "promote", PASSED]
    environ = {**os.environ, "APPSHELF_HOME": str(container.home.root), "APPSHELF_ROLLOUT_DEADLINE_S": "2"}
    with subprocess.Popen(command, env=environ) as promoter:
        while rollouts.current() is None and promoter.poll() is None:
            time.sleep(0.01)
        assert promoter.poll() is None
        promoter.kill()
    assert container.registry.live() == LIVE
    rollouts.leave("a process that never answers")
    assert promote_when_free(container, PASSED) == PASSED


def promote_when_free(container: Container, version: str) -> str | None:
    """Promote as soon as the deadline of the killed rollout has passed; what is live then."""
    while True:
        try:
            promote_version(container, version, note=NOTE)
            return container.registry.live()
        except RolloutUnderWay:
            time.sleep(0.1)
