"""The recipe, on the store front after some days of use, with the real log, the real training and the real gate."""

import errno
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.bundle import read_manifest
from model.training import TrainConfig
from service.container import Container, build
from service.errors import RolloutUnderWay, StoreUnavailable
from service.jobs.asking import ask_retrain
from service.jobs.attending import desk_of, outcome
from service.jobs.desk import Desk, Superseded
from service.jobs.options import RetrainOptions
from service.jobs.queue import LEASE, token_of
from service.jobs.retrain import COUNTS, plan_of, starting_point
from service.lifecycle import promote_version, roll_back, train_version
from service.rollout import Time
from service.states import State
from service.store.job_ports import JobState
from service.store.ports import Note
from service.window import learned_until
from tests.service.jobs.shop import Use, inverted_at_first, quick, use
from tests.service.store_front import LIVE, PASSED, verdict

TEST = Note("test", "because")
NOW = Time(time.time, time.sleep)


@pytest.fixture
def container(home: Path) -> Container:
    return build(quick(home))


def begun(container: Container, **options: object) -> Desk:
    """A retrain that was asked for, at the desk of its child."""
    job = ask_retrain(container, options, who="ana")
    return again(container, job.id)


def again(container: Container, job_id: str) -> Desk:
    """Another attempt at it, by another worker."""
    now = time.time()
    container.jobs.take_lease(LEASE, "w1", now=now, until=now + 600)
    container.jobs.begin(job_id, at=now)
    return desk_of(container, job_id, worker="w1", times=NOW)


def done(desk: Desk) -> dict[str, Any]:
    """What it came to, which is no failure."""
    state, result = outcome(desk)
    assert state is JobState.SUCCEEDED, result
    return dict(result)


def refused(desk: Desk) -> str:
    """The sentence with which it failed."""
    state, result = outcome(desk)
    assert state is JobState.FAILED
    assert desk.container.registry.live() == LIVE
    return str(result["error"])


def challengers(container: Container) -> list[str]:
    return [entry.version for entry in container.registry.versions() if entry.state is State.CHALLENGER]


def made_by(desk: Desk) -> list[str]:
    token = token_of(desk.job.id)
    return [entry.version for entry in desk.container.registry.versions() if entry.version.endswith(token)]


def judged(desk: Desk, *, passed: bool) -> str:
    """A version that an earlier attempt at this job has trained and had judged."""
    container = desk.container
    version = train_version(
        container, TrainConfig(params={"hidden": [4]}, epochs=1), token=token_of(desk.job.id), progress=lambda _: None
    )
    container.registry.record(verdict(version, passed=passed), note=TEST)
    return version


def test_a_challenger_that_learned_from_the_log_passes_and_is_live_with_its_report(container: Container) -> None:
    use(container, Use())
    desk = begun(container)
    result = done(desk)
    assert result["promoted"]
    assert container.registry.live() == result["version"]
    assert (result["parent"], result["mode"]) == (LIVE, "incremental")
    assert result["report"]["passed"]
    assert result["report"]["against"] == LIVE
    assert result["counts"]["positives"] > 100
    assert result["training"]["warm_start"]["parent"] == LIVE
    assert result["seconds"].keys() == {"window", "train", "gate", "promote"}
    moved = container.registry.history()[-1]
    assert (moved.to, moved.who) == (State.LIVE, f"job {desk.job.id}")


def test_a_challenger_that_is_worse_than_live_is_rejected_with_its_report_and_live_stays(container: Container) -> None:
    use(container, Use(sells=inverted_at_first))
    result = done(begun(container))
    assert not result["promoted"]
    assert not result["report"]["passed"]
    assert "auc" in {check["name"] for check in result["report"]["checks"] if check["outcome"] == "failed"}
    assert container.registry.get(result["version"]).state is State.REJECTED
    assert container.registry.live() == LIVE


def test_an_empty_log_is_refused_and_leaves_nothing(container: Container) -> None:
    before = container.registry.versions()
    assert "no impression" in refused(begun(container))
    assert container.registry.versions() == before


def test_a_window_of_one_class_is_refused(container: Container) -> None:
    use(container, Use(requests=50, sells=lambda *_: False, seed=3, chance=(0.0, 0.0)))
    assert "0 positives and 300 negatives" in refused(begun(container))


def test_a_window_that_shrank_until_nothing_is_in_it_is_refused_naming_its_days(container: Container) -> None:
    use(container, Use(requests=50))
    assert "0.0001 days" in refused(begun(container, window_days=0.0001))


def test_nothing_new_since_live_is_refused(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container, promote=False)
    first = made_before_the_gate(desk)
    container.registry.record(verdict(first, passed=True), note=TEST)
    promote_version(container, first, note=TEST)
    container.jobs.end(desk.job.id, JobState.SUCCEEDED, at=time.time(), result={})
    state, result = outcome(begun(container))
    assert state is JobState.FAILED
    assert "nothing is new since live" in str(result["error"])
    assert container.registry.live() == first


def made_before_the_gate(desk: Desk) -> str:
    """The version of a job whose child is killed when it is trained."""

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    object.__setattr__(desk, "judged", killed)
    with pytest.raises(Killed):
        outcome(desk)
    (version,) = made_by(desk)
    return version


def test_what_live_has_learned_is_held_out_of_no_window_from_whichever_version_on(container: Container) -> None:
    use(container, Use())
    desk = begun(container)
    result = done(desk)
    desk.diary.end(JobState.SUCCEEDED, result)
    known = learned_until(read_manifest(container.registry.folder(result["version"])).facts)
    assert container.registry.live() == result["version"]
    assert known is not None
    later = begun(container, mode="full", start_from=LIVE)
    for start_from in (LIVE, None):
        options = RetrainOptions.parse({**later.job.options, "start_from": start_from})
        plan = plan_of(later, options, starting_point(container, options))
        assert plan.since == (known if start_from is None else None)
        assert plan.seen == known.trained


def test_without_a_live_version_there_is_nothing_to_learn_on_from(tmp_path: Path) -> None:
    container = build(quick(tmp_path / "empty"))
    state, result = outcome(begun(container))
    assert state is JobState.FAILED
    assert "nothing is live" in str(result["error"])


def test_an_attempt_after_one_that_was_killed_behind_its_training_trains_no_second_challenger(
    container: Container,
) -> None:
    use(container, Use(requests=60))
    desk = begun(container)
    trained = made_before_the_gate(desk)
    window = (desk.folder / COUNTS).stat().st_mtime_ns

    following = again(container, desk.job.id)
    assert made_before_the_gate(following) == trained

    assert (following.folder / COUNTS).stat().st_mtime_ns == window
    assert made_by(following) == [trained]
    assert any(
        trained in line.text and "earlier attempt" in line.text for line in container.queue.get(desk.job.id).lines
    )


def test_a_bundle_that_was_sealed_and_never_entered_is_entered_and_not_trained_again(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container)

    def killed(*_: object, **__: object) -> None:
        raise StoreUnavailable("store", "gone")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(container.registry), "register", killed)
        with pytest.raises(StoreUnavailable):
            outcome(desk)
    assert made_by(desk) == []
    made_before_the_gate(again(container, desk.job.id))
    assert len(made_by(desk)) == 1


def broken_off(container: Container, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """After an attempt that keeps a checkpoint at every other step, and is killed at the end of its first epoch."""
    use(container, Use())
    desk = begun(container)

    class Killed(Exception):
        pass

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("service.unfinished.LEAST_EVERY_S", 0.0)
        patch.setattr("service.unfinished.SHARE", float("inf"))
        patch.setattr("model.learner.Learner.settle_unseen", killed)
        with pytest.raises(Killed):
            outcome(desk)
    return desk


def lines_of(desk: Desk) -> list[str]:
    return [line.text for line in desk.container.queue.get(desk.job.id).lines]


def test_an_attempt_after_one_that_was_killed_in_its_training_goes_on_with_it(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = broken_off(container, monkeypatch)

    result = done(again(container, desk.job.id))

    assert result["parent"] == LIVE
    assert any(line.startswith("goes on at epoch 1, after step") for line in lines_of(desk))


def test_an_attempt_whose_checkpoint_is_damaged_trains_anew_and_says_why(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = broken_off(container, monkeypatch)
    for header in desk.folder.glob("training/checkpoints/*/checkpoint.json"):
        header.write_text("{}")

    done(again(container, desk.job.id))

    assert any("is damaged" in line for line in lines_of(desk))


def test_a_version_that_was_trained_on_a_gpu_by_name_is_learned_on_from_without_one(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(container, Use())
    parent = starting_point(container, RetrainOptions.of({}, container.settings))
    config = {**parent.manifest.config, "device": "cuda"}
    on_a_gpu = replace(parent, manifest=parent.manifest.model_copy(update={"config": config}))
    monkeypatch.setattr("service.jobs.retrain.starting_point", lambda *_: on_a_gpu)

    assert done(begun(container))["parent"] == LIVE


def test_an_attempt_by_another_release_than_the_one_that_was_killed_trains_anew_and_says_why(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    desk = broken_off(container, monkeypatch)
    monkeypatch.setattr("service.jobs.retrain.software_version", lambda: "the next one")

    done(again(container, desk.job.id))

    assert any('"the next one" now' in line for line in lines_of(desk))


def test_a_disk_without_room_for_a_checkpoint_fails_it_once_and_says_what_to_do(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(container, Use())
    desk, tries = begun(container), list[object]()

    def full(*_: object) -> None:
        tries.append(_)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("service.unfinished.LEAST_EVERY_S", 0.0)
        patch.setattr("model.checkpoint.save_file", full)
        error = refused(desk)

    assert "No space left on device" in error
    assert "ask for the retrain again" in error
    assert len(tries) == 1


def test_a_verdict_against_live_stands_so_an_attempt_after_the_gate_only_promotes(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container)
    version = judged(desk, passed=True)
    result = done(desk)
    assert (result["version"], result["promoted"]) == (version, True)
    assert container.registry.live() == version


def test_a_rejected_one_is_not_promoted_by_a_later_attempt(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container)
    judged(desk, passed=False)
    assert not done(desk)["promoted"]
    assert container.registry.live() == LIVE


def test_without_promotion_it_stops_at_the_verdict(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container, promote=False)
    version = judged(desk, passed=True)
    assert not done(desk)["promoted"]
    assert container.registry.get(version).state is State.PASSED
    assert container.registry.live() == LIVE


def test_an_attempt_after_the_promotion_finds_it_done(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container)
    version = judged(desk, passed=True)
    promote_version(container, version, note=TEST)
    before = container.registry.history()
    shutil.rmtree(desk.folder, ignore_errors=True)  # as on another machine
    assert done(desk)["promoted"]
    assert container.registry.history() == before


def test_what_an_operator_has_gone_back_from_is_not_taken_live_again(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container)
    promote_version(container, judged(desk, passed=True), note=TEST)
    roll_back(container, note=TEST)
    done(desk)
    assert container.registry.live() == LIVE


def test_a_job_that_was_cancelled_or_lost_meanwhile_moves_nothing(container: Container) -> None:
    use(container, Use(requests=60))
    desk = begun(container)
    judged(desk, passed=True)
    container.jobs.drop_lease(LEASE, "w1")
    with pytest.raises(Superseded, match="another worker's"):
        outcome(desk)
    container.jobs.ask_cancel(desk.job.id)
    with pytest.raises(Superseded, match="ended by somebody"):
        outcome(desk)
    assert container.registry.live() == LIVE


def test_a_rollout_that_is_under_way_is_waited_for(container: Container, monkeypatch: pytest.MonkeyPatch) -> None:
    use(container, Use(requests=60))
    desk = begun(container)
    version = judged(desk, passed=True)
    left = [2]

    def busy(*arguments: Any, **named: Any) -> Any:  # noqa: ANN401  # passed on as they come
        left[0] -= 1
        if left[0]:
            raise RolloutUnderWay(PASSED, remaining_s=1.0)
        return promote_version(*arguments, **named)

    monkeypatch.setattr("service.jobs.desk.promote_version", busy)
    assert done(desk)["promoted"]
    assert container.registry.live() == version
    assert left == [0]
