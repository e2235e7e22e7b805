"""The contract of RolloutStore, on every backend."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from service.errors import RolloutUnderWay
from service.store.ports import Lease, Outcome, Rollout, RolloutStore, Vote
from tests.service.clock import Clock
from tests.service.store.entries import NEW, OLD


def test_a_heartbeat_takes_a_lease_and_renews_it(rollouts: RolloutStore, clock: Clock) -> None:
    rollouts.heartbeat("p1", None)
    clock.advance(1)
    rollouts.heartbeat("p1", OLD)

    assert rollouts.leases(alive_since=0) == (Lease("p1", OLD, clock.now),)


def test_a_lease_without_a_heartbeat_runs_out(rollouts: RolloutStore, clock: Clock) -> None:
    rollouts.heartbeat("dead", OLD)
    clock.advance(6)
    rollouts.heartbeat("alive", OLD)

    assert [lease.process for lease in rollouts.leases(alive_since=clock.now - 5)] == ["alive"]


def test_a_process_that_leaves_has_no_lease(rollouts: RolloutStore) -> None:
    rollouts.heartbeat("p1", OLD)

    rollouts.leave("p1")
    rollouts.leave("never came")

    assert rollouts.leases(alive_since=0) == ()


def test_a_rollout_is_current_until_it_is_finished(rollouts: RolloutStore, clock: Clock) -> None:
    rollout = rollouts.begin(NEW, deadline=clock.now + 60)

    assert rollouts.current() == rollout == Rollout(rollout.id, NEW, clock.now + 60)

    rollouts.finish(rollout.id, Outcome.COMMITTED)
    assert rollouts.current() is None


def test_a_second_rollout_is_refused_while_one_is_under_way(rollouts: RolloutStore, clock: Clock) -> None:
    rollout = rollouts.begin(NEW, deadline=clock.now + 60)

    with pytest.raises(RolloutUnderWay, match=f"{NEW}.*at the latest in 60 s"):
        rollouts.begin(OLD, deadline=clock.now + 60)

    assert rollouts.current() == rollout


def test_a_rollout_past_its_deadline_is_over(rollouts: RolloutStore, clock: Clock) -> None:
    abandoned = rollouts.begin(NEW, deadline=clock.now + 60)
    clock.advance(60)

    assert rollouts.current() is None

    following = rollouts.begin(OLD, deadline=clock.now + 60)
    assert following.id != abandoned.id
    assert rollouts.current() == following


def test_a_late_end_of_an_expired_rollout_leaves_the_next_alone(rollouts: RolloutStore, clock: Clock) -> None:
    abandoned = rollouts.begin(NEW, deadline=clock.now + 60)
    clock.advance(60)
    following = rollouts.begin(OLD, deadline=clock.now + 60)

    rollouts.finish(abandoned.id, Outcome.ABORTED)

    assert rollouts.current() == following


def test_votes_are_those_of_their_rollout(rollouts: RolloutStore, clock: Clock) -> None:
    first = rollouts.begin(NEW, deadline=clock.now + 60)
    rollouts.vote(first.id, Vote("p2", ok=True, detail="prepared"))
    rollouts.vote(first.id, Vote("p1", ok=False, detail="weights.safetensors is truncated"))
    rollouts.finish(first.id, Outcome.ABORTED)
    second = rollouts.begin(NEW, deadline=clock.now + 60)

    assert rollouts.votes(first.id) == (
        Vote("p1", ok=False, detail="weights.safetensors is truncated"),
        Vote("p2", ok=True, detail="prepared"),
    )
    assert rollouts.votes(second.id) == ()


def test_a_later_vote_replaces_an_earlier_one(rollouts: RolloutStore, clock: Clock) -> None:
    rollout = rollouts.begin(NEW, deadline=clock.now + 60)
    rollouts.vote(rollout.id, Vote("p1", ok=False, detail="no memory"))

    rollouts.vote(rollout.id, Vote("p1", ok=True, detail="prepared"))

    assert rollouts.votes(rollout.id) == (Vote("p1", ok=True, detail="prepared"),)


def test_of_many_begun_at_once_one_is_under_way(rollouts: RolloutStore, clock: Clock) -> None:
    barrier = Barrier(8)

    def begin(number: int) -> bool:
        barrier.wait()
        try:
            rollouts.begin(f"v{number}", deadline=clock.now + 60)
        except RolloutUnderWay:
            return False
        return True

    with ThreadPoolExecutor(8) as threads:
        assert sum(threads.map(begin, range(8))) == 1
