"""One serving process, turn by turn."""

import logging
from collections.abc import Iterator
from pathlib import Path
from threading import Event

import pytest

from service.bundles import LocalBundles
from service.engine import Live
from service.errors import StoreUnavailable
from service.registry import Registry
from service.states import State
from service.store.ports import Outcome, RolloutStore, Vote
from tests.service.clock import Clock
from tests.service.fleet import PACE, Fleet, Held, Process
from tests.service.store.backends import Backend, Place, sqlite
from tests.service.store.entries import NEW, NOTE, OLD, entry

MENDED = "20261103T000000Z-00000c"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Backend]:
    """A store in which OLD is live and NEW has passed."""
    with sqlite(Place(tmp_path, request), clock) as backend:
        backend.index.add(entry(OLD, State.LIVE), note=NOTE)
        backend.index.add(entry(NEW, State.PASSED), note=NOTE)
        yield backend


@pytest.fixture
def rollouts(backend: Backend) -> RolloutStore:
    return backend.rollouts


@pytest.fixture
def fleet(backend: Backend, clock: Clock, tmp_path: Path) -> Fleet:
    return Fleet(Registry(backend.index, LocalBundles(tmp_path)), backend, clock)


def test_a_process_takes_the_live_version_before_it_takes_a_lease(fleet: Fleet, rollouts: RolloutStore) -> None:
    process = fleet.start(Process("p1"))

    assert process.engine.version == OLD
    assert [(lease.process, lease.version) for lease in rollouts.leases(alive_since=0)] == [("p1", OLD)]


def test_what_serves_and_in_which_precision_is_a_line_of_the_log(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    process = fleet.start(Process("p1"))
    fleet.promote(NEW)
    precision = process.engine.live().precision
    assert [line for line in caplog.messages if "serves, in precision" in line] == [
        f"version {version} serves, in precision {precision}" for version in (OLD, NEW)
    ]


def test_a_process_without_a_live_version_waits_for_one(
    request: pytest.FixtureRequest, tmp_path: Path, clock: Clock
) -> None:
    with sqlite(Place(tmp_path, request), clock) as empty:
        empty.index.add(entry(NEW, State.PASSED), note=NOTE)
        fleet = Fleet(Registry(empty.index, LocalBundles(tmp_path)), empty, clock)
        process = fleet.start(Process("p1"))
        fleet.step()
        before = process.engine.version

        fleet.promote(NEW)

        assert (before, process.engine.version) == (None, NEW)


def test_a_process_that_cannot_take_the_live_version_has_no_lease(fleet: Fleet, rollouts: RolloutStore) -> None:
    with pytest.raises(RuntimeError, match="truncated"):
        fleet.start(Process("p1", broken={OLD}))

    assert rollouts.leases(alive_since=0) == ()


def test_a_pointer_moved_by_other_means_is_followed(fleet: Fleet, backend: Backend) -> None:
    process = fleet.start(Process("p1"))
    backend.index.move(NEW, State.LIVE, note=NOTE)

    fleet.step()
    fleet.step()

    assert process.prepared == [OLD, NEW]
    assert process.engine.version == NEW


def test_a_process_serves_on_while_its_store_is_away_and_says_so_once(
    fleet: Fleet, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    process = fleet.start(Process("p1"))
    backend.index.move(NEW, State.LIVE, note=NOTE)
    process.store_is_away = StoreUnavailable("store.sqlite", "disk I/O error")

    with caplog.at_level(logging.ERROR):
        for _ in range(5):
            fleet.wait(1)

    assert process.engine.version == OLD
    assert len([record for record in caplog.records if "disk I/O error" in record.message]) == 1


def test_an_outage_that_looks_different_from_turn_to_turn_is_told_of_once_and_so_is_its_end(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    process = fleet.start(Process("p1"))
    with caplog.at_level(logging.WARNING):
        for reason in ("timed out", "connection refused", "loading its dataset"):
            process.store_is_away = StoreUnavailable("redis", reason)
            fleet.step()
        process.store_is_away = None
        fleet.step()
        fleet.step()

    trouble, end = (record for record in caplog.records if record.levelno >= logging.WARNING)
    assert (trouble.levelname, end.levelname) == ("ERROR", "WARNING")
    assert "timed out" in trouble.message
    assert end.message == "the store is followed again"


def test_a_process_that_starts_with_its_store_away_serves_what_served_last(
    fleet: Fleet, rollouts: RolloutStore
) -> None:
    process = Process("p1", remembered=[OLD], store_is_away=StoreUnavailable("redis", "connection refused"))

    fleet.start(process)

    assert (process.engine.version, process.prepared) == (OLD, [])
    assert rollouts.leases(alive_since=0) == ()

    process.store_is_away = None
    fleet.step()

    assert process.prepared == []
    assert process.refreshed == [OLD]
    assert [(lease.process, lease.version) for lease in rollouts.leases(alive_since=0)] == [("p1", OLD)]


def test_what_went_live_while_a_process_could_not_know_is_taken_when_the_store_is_back(
    fleet: Fleet, backend: Backend
) -> None:
    process = Process("p1", remembered=[OLD], store_is_away=StoreUnavailable("redis", "connection refused"))
    fleet.start(process)
    backend.index.move(NEW, State.LIVE, note=NOTE)
    process.store_is_away = None

    fleet.step()
    fleet.step()

    assert process.engine.version == NEW
    assert process.remembered == [OLD, NEW]


def test_a_process_that_starts_with_its_store_away_and_never_served_comes_up_when_it_is_back(fleet: Fleet) -> None:
    process = Process("p1", store_is_away=StoreUnavailable("redis", "connection refused"))
    with pytest.raises(StoreUnavailable):
        fleet.start(process)
    before = process.engine.version
    process.store_is_away = None

    fleet.step()
    fleet.step()

    assert (before, process.engine.version) == (None, OLD)


def test_a_store_that_goes_away_between_the_pointer_and_the_lease_stops_no_start(fleet: Fleet) -> None:
    class LosesItsStore(Process):
        def prepare(self, version: str) -> Live:
            self.store_is_away = StoreUnavailable("redis", "timed out")
            return super().prepare(version)

    process = fleet.start(LosesItsStore("p1"))

    assert process.engine.version == OLD
    assert process.remembered == [OLD]


def test_every_swap_is_remembered_for_a_start_without_the_store(fleet: Fleet) -> None:
    process = fleet.start(Process("p1"))

    fleet.promote(NEW)

    assert process.remembered == [OLD, NEW]


def test_a_lease_that_a_restarted_store_has_lost_is_taken_again_at_once(fleet: Fleet, rollouts: RolloutStore) -> None:
    process = fleet.start(Process("p1"))
    process.store_is_away = StoreUnavailable("redis", "connection refused")
    fleet.step()
    rollouts.leave("p1")
    process.store_is_away = None

    fleet.step()

    assert [lease.process for lease in rollouts.leases(alive_since=0)] == ["p1"]


def test_a_vote_that_a_restarted_store_has_lost_is_cast_again(
    fleet: Fleet, rollouts: RolloutStore, clock: Clock
) -> None:
    process = fleet.start(Process("p1"))
    rollout = rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)
    fleet.step()
    process.store_is_away = StoreUnavailable("redis", "connection refused")
    fleet.step()
    lost = Vote("p1", ok=False, detail="put in the place of the lost one by the test")
    rollouts.vote(rollout.id, lost)
    process.store_is_away = None

    fleet.step()

    assert rollouts.votes(rollout.id) == (Vote("p1", ok=True, detail="prepared"),)
    assert process.prepared == [OLD, NEW]


def test_a_rollout_of_a_store_that_counts_from_1_again_is_another_one(
    request: pytest.FixtureRequest, tmp_path: Path, fleet: Fleet, clock: Clock
) -> None:
    fleet.start(Process("p1"))
    first = fleet.rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)
    fleet.step()
    fleet.rollouts.finish(first.id, Outcome.ABORTED)
    (tmp_path / "anew").mkdir()
    with sqlite(Place(tmp_path / "anew", request), clock) as anew:
        second = anew.rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s + 1)
        fleet.rollouts = anew.rollouts
        fleet.step()
        votes = anew.rollouts.votes(second.id)

    assert second.id == first.id
    assert [vote.ok for vote in votes] == [True]


def test_a_store_that_returns_is_followed_again(fleet: Fleet, backend: Backend) -> None:
    process = fleet.start(Process("p1"))
    process.store_is_away = StoreUnavailable("store.sqlite", "disk I/O error")
    backend.index.move(NEW, State.LIVE, note=NOTE)
    fleet.step()
    process.store_is_away = None

    fleet.step()
    fleet.step()

    assert process.engine.version == NEW


def test_heartbeats_go_on_while_a_version_is_prepared(fleet: Fleet, rollouts: RolloutStore, clock: Clock) -> None:
    fleet.start(Process("p1", executor=Held()))
    rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)

    for _ in range(100):
        fleet.wait(PACE.poll_s)

    assert rollouts.leases(alive_since=clock.now - PACE.lease_timeout_s) != ()


def test_a_heartbeat_is_written_only_when_it_is_due(fleet: Fleet, rollouts: RolloutStore, clock: Clock) -> None:
    fleet.start(Process("p1"))
    (first,) = rollouts.leases(alive_since=0)

    fleet.wait(PACE.poll_s)

    assert rollouts.leases(alive_since=0) == (first,)


def test_a_clock_that_was_set_back_leaves_no_lease_that_outlives_its_process(
    fleet: Fleet, rollouts: RolloutStore, clock: Clock
) -> None:
    fleet.start(Process("p1"))
    clock.advance(-3600)
    fleet.step()
    assert [lease.beat_at for lease in rollouts.leases(alive_since=0)] == [clock.now]


def test_what_an_aborted_rollout_prepared_is_let_go(fleet: Fleet, rollouts: RolloutStore, clock: Clock) -> None:
    process = fleet.start(Process("p1"))
    rollout = rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)
    fleet.step()
    assert process.alive_versions() == {OLD, NEW}

    rollouts.finish(rollout.id, Outcome.ABORTED)
    fleet.step()

    assert process.alive_versions() == {OLD}


def test_what_an_abandoned_rollout_prepared_is_let_go_at_its_deadline(
    fleet: Fleet, rollouts: RolloutStore, clock: Clock
) -> None:
    process = fleet.start(Process("p1"))
    rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)
    fleet.step()

    fleet.wait(PACE.deadline_s)

    assert process.alive_versions() == {OLD}


def test_the_former_version_is_let_go_after_a_swap(fleet: Fleet) -> None:
    process = fleet.start(Process("p1"))

    fleet.promote(NEW)

    assert process.alive_versions() == {NEW}
    assert process.let_go == [OLD]


def test_a_swap_is_told_at_once(fleet: Fleet, backend: Backend) -> None:
    fleet.start(Process("p1"))
    backend.index.move(NEW, State.LIVE, note=NOTE)

    fleet.step()
    fleet.step()

    assert [lease.version for lease in backend.rollouts.leases(alive_since=0)] == [NEW]


def test_a_vote_that_was_cast_is_not_cast_again(fleet: Fleet, rollouts: RolloutStore, clock: Clock) -> None:
    fleet.start(Process("p1"))
    rollout = rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)
    fleet.step()
    replaced = Vote("p1", ok=True, detail="replaced by the test")
    rollouts.vote(rollout.id, replaced)

    fleet.step()

    assert rollouts.votes(rollout.id) == (replaced,)


def test_a_failed_preparation_is_not_tried_again_in_the_same_rollout(
    fleet: Fleet, rollouts: RolloutStore, clock: Clock
) -> None:
    process = fleet.start(Process("p1", broken={NEW}))
    rollout = rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)
    fleet.step()
    process.broken.clear()

    fleet.wait(PACE.deadline_s / 2)

    (vote,) = rollouts.votes(rollout.id)
    assert not vote.ok
    assert "truncated" in vote.detail
    assert process.prepared == [OLD, NEW]


def test_a_live_version_that_could_not_be_prepared_is_tried_again_later(fleet: Fleet, backend: Backend) -> None:
    process = fleet.start(Process("p1", broken={NEW}))
    backend.index.move(NEW, State.LIVE, note=NOTE)
    fleet.step()
    process.broken.clear()

    fleet.wait(PACE.deadline_s / 2)
    assert process.engine.version == OLD
    fleet.wait(PACE.deadline_s)
    fleet.step()

    assert process.engine.version == NEW
    assert process.prepared == [OLD, NEW, NEW]


def test_a_process_stuck_on_a_broken_live_version_takes_part_in_the_next_rollout(
    fleet: Fleet, backend: Backend
) -> None:
    process = fleet.start(Process("p1", broken={NEW}))
    backend.index.move(NEW, State.LIVE, note=NOTE)
    fleet.step()
    backend.index.add(entry(MENDED, State.PASSED), note=NOTE)

    result = fleet.promote(MENDED)

    assert result.complete
    assert process.engine.version == MENDED


def test_a_rollout_that_was_decided_without_a_slow_process_reaches_it_later(
    fleet: Fleet, backend: Backend, clock: Clock
) -> None:
    held = Held()
    process = fleet.start(Process("p1", executor=held))
    rollout = backend.rollouts.begin(NEW, deadline=clock.now + PACE.deadline_s)
    fleet.step()
    backend.index.move(NEW, State.LIVE, note=NOTE)
    backend.rollouts.finish(rollout.id, Outcome.COMMITTED)
    fleet.step()

    held.let_go()
    fleet.step()

    assert process.engine.version == NEW
    assert process.prepared == [OLD, NEW]


def test_the_catalogue_is_refreshed_every_turn_and_before_a_swap(fleet: Fleet) -> None:
    process = fleet.start(Process("p1"))
    fleet.step()

    fleet.promote(NEW)

    assert process.refreshed[0] == OLD
    assert process.refreshed[-2:] == [NEW, NEW]


def test_a_process_that_ends_gives_its_lease_back(fleet: Fleet, rollouts: RolloutStore) -> None:
    fleet.start(Process("p1"))
    stop = Event()
    stop.set()

    fleet.running["p1"].run(stop)

    assert rollouts.leases(alive_since=0) == ()
