"""A version's life, with the real gate and a real dry run."""

import os
import shutil
import subprocess
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from model.bundle import BundleError, load, save
from model.data.dataset import DatasetError
from model.report import Check, GateReport, PrecisionSetting
from model.scorer import Scorer
from model.training import TrainConfig, TrainingFailed
from service import lifecycle
from service.child import Child
from service.container import Container, build
from service.errors import (
    GateRefused,
    JudgingBrokeOff,
    LiveMoved,
    NothingToRollBack,
    RollbackRefused,
    RolloutUnderWay,
    UnknownVersion,
)
from service.lifecycle import TrainOptions, enter_orphans, gate_version, promote_version, roll_back, train_version
from service.quality import quality
from service.states import State
from service.store.ports import Note
from service.store.sqlite import Database
from service.store.sqlite_rollout import SqliteRolloutStore
from service.trial import Trial
from tests.service.store_front import LIVE, MISSING_ITS_GOLDEN, PASSED, REJECTED, dataset, settings

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


def serving_in(container: Container, precision: PrecisionSetting) -> Container:
    return replace(container, settings=container.settings.model_copy(update={"precision": precision}))


def test_the_precision_that_is_set_reaches_both_who_judge(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: list[Trial] = []

    def judged(trial: Trial, *_: object, **__: object) -> list[Check]:
        trials.append(trial)
        return [Check("auc", "passed", 1, 0, "")]

    for half in ("dry_run", "quality"):
        monkeypatch.setattr(lifecycle, half, judged)
    gate_version(serving_in(container, "fast"), PASSED)
    assert [trial.limits.precision for trial in trials] == ["fast", "fast"]
    told, _ = Trial.told(trials[0].words, parser=ArgumentParser())
    assert told == replace(trials[0], challenger=told.challenger.absolute())


def test_the_gate_says_how_far_fast_and_exact_agree_with_the_reference(container: Container) -> None:
    checks = {check.name: check for check in gate_version(container, train(container)).checks}
    assert (checks["golden_exact"].outcome, checks["exact_agreement"].outcome) == ("passed", "passed")
    assert checks["order_agreement"].outcome in ("passed", "skipped")


def test_a_version_whose_report_says_nothing_good_of_fast_is_judged_again_once_fast_is_set(
    container: Container,
) -> None:
    report = container.registry.verdict(PASSED)
    with suppress(GateRefused):
        promote_version(serving_in(container, "fast"), PASSED, note=NOTE)
    assert container.registry.verdict(PASSED) != report


def test_without_a_name_the_newest_that_passed_is_promoted(container: Container) -> None:
    newest = container.registry.newest_passed()
    assert promote_version(container, None, note=NOTE).version == newest


def test_a_version_is_judged_again_when_live_has_moved(container: Container) -> None:
    promote_version(container, PASSED, note=NOTE)
    with suppress(GateRefused):
        promote_version(container, REJECTED, note=NOTE)
    verdict = container.registry.verdict(REJECTED)
    assert verdict is not None
    assert verdict.against == PASSED


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


def missing(container: Container, version: str) -> None:
    shutil.rmtree(container.home.bundles / version)


@pytest.mark.parametrize("damage", [truncate, missing])
@pytest.mark.parametrize("forced", [False, True])
def test_without_a_server_no_missing_or_damaged_bundle_goes_live(
    container: Container, damage: Callable[[Container, str], None], forced: bool
) -> None:
    damage(container, PASSED)
    with pytest.raises(BundleError, match=PASSED):
        promote_version(container, PASSED, note=Note("test", "because", force=forced))
    assert container.registry.live() == LIVE
    assert container.registry.get(PASSED).state is State.PASSED


@pytest.mark.parametrize("damage", [truncate, missing])
def test_without_a_server_no_rollback_takes_a_missing_or_damaged_bundle(
    container: Container, damage: Callable[[Container, str], None]
) -> None:
    promote_version(container, PASSED, note=NOTE)
    damage(container, LIVE)
    with pytest.raises(BundleError, match=LIVE):
        roll_back(container, note=NOTE)
    assert container.registry.live() == PASSED


def test_a_refused_promote_does_not_stand_in_the_way_of_the_next(container: Container) -> None:
    weights = (container.home.bundles / PASSED / "weights.safetensors").read_bytes()
    truncate(container, PASSED)
    with pytest.raises(BundleError):
        promote_version(container, PASSED, note=NOTE)
    (container.home.bundles / PASSED / "weights.safetensors").write_bytes(weights)
    promote_version(container, PASSED, note=NOTE)
    assert container.registry.live() == PASSED


def test_a_rollback_takes_a_version_that_was_judged_again_and_refused(container: Container) -> None:
    promote_version(container, PASSED, note=NOTE)
    truncate(container, LIVE)
    assert not gate_version(container, LIVE).passed
    mend(container, LIVE)
    assert roll_back(container, note=NOTE).version == LIVE


def mend(container: Container, version: str) -> None:
    """Put back the byte that `truncate` took: the bundle of the other name has the same weights."""
    shutil.copy(container.home.bundles / MISSING_ITS_GOLDEN / "weights.safetensors", container.home.bundles / version)


def test_a_rollback_that_is_refused_says_what_does_it_all_the_same(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(container.registry, "previous_live", lambda: REJECTED)  # as a release before this one left it
    with pytest.raises(RollbackRefused, match=f"`appshelf promote {REJECTED} --force --reason WHY`"):
        roll_back(container, note=NOTE)


def test_a_verdict_is_of_the_version_that_is_live_when_the_pointer_moves(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    moves = [lambda: container.registry.go_live(REJECTED, note=Note("ann", "now", force=True))]

    def overtaken(trial: Trial, data: Path, *, child: Child) -> list[Check]:
        checks = quality(trial, data, child=child)
        if moves:
            moves.pop()()
        return checks

    monkeypatch.setattr(lifecycle, "quality", overtaken)
    promote_version(container, another(container), note=Note("test", "because", force=True))
    verdict = container.registry.verdict(UNSEEN)
    assert verdict is not None
    assert verdict.against == REJECTED
    assert container.registry.live() == UNSEEN


def test_a_live_version_that_keeps_moving_ends_a_promote_after_a_few_judgements(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    judgements: list[str] = []

    def always_late(_: Container, version: str, **__: object) -> GateReport:
        judgements.append(version)
        report = GateReport(version, PASSED, "2026-01-01T00:00:00+00:00", (Check("auc", "passed", 1, 0, ""),))
        container.registry.record(report, note=NOTE)
        return report

    monkeypatch.setattr(lifecycle, "gate_version", always_late)
    with pytest.raises(LiveMoved, match=f"to take the place of {PASSED}, and {LIVE} is live by now"):
        promote_version(container, another(container), note=NOTE)
    assert 1 < len(judgements) < 10
    assert container.registry.live() == LIVE


def test_a_version_is_judged_on_the_data_that_is_named(container: Container, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="nowhere"):
        gate_version(container, PASSED, data=tmp_path / "nowhere")
    container.home.data.rename(tmp_path / "elsewhere")
    gate_version(container, PASSED, data=tmp_path / "elsewhere")
    with suppress(GateRefused):
        promote_version(container, another(container), note=NOTE, data=tmp_path / "elsewhere")
    assert container.registry.verdict(UNSEEN) is not None


def another(container: Container) -> str:
    """One more challenger, equal to the one that passed."""
    bundle = load(container.home.bundles / PASSED)
    sealed = replace(bundle, manifest=bundle.manifest.model_copy(update={"version": UNSEEN}))
    save(sealed, container.home.bundles)
    enter_orphans(container)
    return UNSEEN


def test_judging_that_breaks_off_records_nothing(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_off(*_: object, **__: object) -> list[Check]:
        raise JudgingBrokeOff("quality", cause="SIGTERM")

    before = container.registry.get(PASSED)
    monkeypatch.setattr(lifecycle, "quality", broken_off)
    with pytest.raises(JudgingBrokeOff):
        gate_version(container, PASSED)
    assert container.registry.get(PASSED) == before


def test_a_process_that_is_to_end_breaks_its_judging_off(container: Container) -> None:
    before = container.registry.get(PASSED)
    container.readiness.drain()
    with pytest.raises(JudgingBrokeOff, match="nothing is recorded, judge again"):
        gate_version(container, PASSED)
    assert container.registry.get(PASSED) == before


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
        assert any("epoch 1/1000" in line for line in trainer.stderr)
        trainer.kill()
    assert container.registry.versions() == before
    assert container.registry.get(train(container)).state is State.CHALLENGER


@pytest.mark.e2e
def test_a_promote_that_was_killed_leaves_live_serving_and_the_next_one_promotes(container: Container) -> None:
    database = Database(container.home.store)
    rollouts = SqliteRolloutStore(database, time.time)
    SqliteRolloutStore(database, lambda: time.time() + 3600).heartbeat("a process that never answers", LIVE)
    command = [sys.executable, "-c", "from service.cli import main; main()", "promote", PASSED]
    environ = {**os.environ, "APPSHELF_HOME": str(container.home.root), "APPSHELF_JOB_LEASE_S": "2"}
    with subprocess.Popen(command, env=environ) as promoter:
        while rollouts.current() is None and promoter.poll() is None:
            time.sleep(0.01)
        assert promoter.poll() is None
        promoter.kill()
    assert container.registry.live() == LIVE
    rollouts.leave("a process that never answers")
    assert promote_when_free(container, PASSED) == PASSED


def promote_when_free(container: Container, version: str) -> str | None:
    """Promote as soon as the lease of the killed promote is over, long before its deadline; what is live then."""
    give_up = time.monotonic() + 120
    while True:
        try:
            promote_version(container, version, note=NOTE)
            return container.registry.live()
        except RolloutUnderWay:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.1)


def test_a_version_learned_on_from_another_names_its_parent_and_what_it_took_over(container: Container) -> None:
    config = TrainConfig.model_validate(load(container.home.bundles / LIVE).manifest.config)
    version = train_version(container, TrainOptions(config, LIVE), token="dddddd", progress=lambda _: None)

    manifest, entry = load(container.home.bundles / version).manifest, container.registry.get(version)
    training = manifest.facts["training"]
    assert manifest.parent == entry.parent == LIVE
    assert training["warm_start"]["optimizer"] == "carried"
    assert training["warm_start"]["rows_new"] == 0
    assert manifest.metrics["auc"] >= training["start_auc"]
    assert container.registry.history()[-1].why.startswith(f"trained on from {LIVE}: ")


def test_a_version_can_be_learned_on_from_one_that_was_learned_on(container: Container) -> None:
    config = TrainConfig.model_validate(load(container.home.bundles / LIVE).manifest.config)
    first = train_version(container, TrainOptions(config, LIVE), token="dddddd", progress=lambda _: None)
    second = train_version(container, TrainOptions(config, first), token="eeeeee", progress=lambda _: None)

    auc = {version: container.registry.get(version).metrics["auc"] for version in (LIVE, first, second)}
    assert auc[second] >= auc[first] >= auc[LIVE]


def test_a_parent_that_lost_its_optimizer_file_gives_its_weights_alone(container: Container) -> None:
    (container.home.bundles / LIVE / "optimizer.safetensors").unlink()
    config = TrainConfig.model_validate(load(container.home.bundles / LIVE).manifest.config)

    version = train_version(container, TrainOptions(config, LIVE), token="dddddd", progress=lambda _: None)

    manifest = load(container.home.bundles / version).manifest
    assert manifest.facts["training"]["warm_start"]["optimizer"] == "missing"


def test_a_parent_that_is_not_there_is_refused_before_anything_is_trained(container: Container) -> None:
    seen: list[object] = []
    with pytest.raises(UnknownVersion):
        train_version(container, TrainOptions(SMALL, UNSEEN), token="dddddd", progress=seen.append)
    assert seen == []


def test_a_dataset_can_stand_in_for_the_homes(container: Container) -> None:
    other = dataset(seed=9)
    version = train_version(container, TrainOptions(SMALL, dataset=other), token="dddddd", progress=lambda _: None)
    statistics = load(container.home.bundles / version).statistics
    assert statistics["row_count"] == len(other.examples.filter(split="train"))
