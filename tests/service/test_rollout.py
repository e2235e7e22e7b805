"""A rollout over several serving processes, each driven by the coordinator's waiting."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.bundles import LocalBundles
from service.errors import (
    IllegalTransition,
    RolloutFailed,
    RolloutUnderWay,
    StoreUnavailable,
    UnknownVersion,
    UnreasonedForce,
)
from service.registry import Registry
from service.states import State
from service.store.ports import Note
from service.store.redis_backend import open_redis
from tests.redis_server import RedisServer, redis_server
from tests.service.clock import Clock
from tests.service.fleet import PACE, TURN, Fleet, Held, Process
from tests.service.store.backends import BACKENDS, PATIENT_S, Backend, Place
from tests.service.store.entries import NEW, NOTE, OLD, entry

REJECTED = "20261103T000000Z-00000c"
LATER = "20261104T000000Z-00000d"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=sorted(BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Backend]:
    """A store in which OLD is live and NEW has passed."""
    with BACKENDS[request.param](Place(tmp_path, request), clock) as backend:
        backend.index.add(entry(OLD, State.LIVE), note=NOTE)
        backend.index.add(entry(NEW, State.PASSED), note=NOTE)
        yield backend


@pytest.fixture
def registry(backend: Backend, tmp_path: Path) -> Registry:
    return Registry(backend.index, LocalBundles(tmp_path))


@pytest.fixture
def fleet(backend: Backend, registry: Registry, clock: Clock) -> Fleet:
    return Fleet(registry, backend, clock)


def test_without_a_server_the_pointer_moves_at_once(fleet: Fleet, registry: Registry, clock: Clock) -> None:
    began_at = clock.now

    result = fleet.promote(NEW)

    assert registry.live() == NEW
    assert (result.processes, result.complete, clock.now) == ({}, True, began_at)


def test_every_process_serves_the_new_version_when_a_promote_returns(fleet: Fleet, registry: Registry) -> None:
    one, two = fleet.start(Process("p1")), fleet.start(Process("p2"))

    result = fleet.promote(NEW)

    assert result.processes == {"p1": NEW, "p2": NEW}
    assert result.complete
    assert one.engine.version == two.engine.version == registry.live() == NEW


def test_nobody_swaps_before_everybody_is_prepared(fleet: Fleet, registry: Registry) -> None:
    held = Held()
    quick, slow = fleet.start(Process("p1")), fleet.start(Process("p2", executor=held))
    seen: list[tuple[str | None, list[str]]] = []

    def look_and_let_go() -> None:
        seen.append((quick.engine.version, list(quick.prepared)))
        if len(seen) == 3:
            held.let_go()

    fleet.meanwhile = look_and_let_go
    fleet.promote(NEW)

    assert seen[:3] == [(OLD, [OLD, NEW])] * 3
    assert quick.engine.version == slow.engine.version == NEW


def test_one_process_that_cannot_prepare_aborts_the_rollout(fleet: Fleet, registry: Registry) -> None:
    one, two = fleet.start(Process("p1")), fleet.start(Process("p2", broken={NEW}))

    with pytest.raises(RolloutFailed, match=r"process p2 could not prepare it: .*truncated") as refusal:
        fleet.promote(NEW)

    assert refusal.value.process == "p2"
    assert one.engine.version == two.engine.version == registry.live() == OLD
    assert registry.get(NEW).state is State.PASSED


def test_an_aborted_rollout_does_not_stand_in_the_way_of_the_next(fleet: Fleet, registry: Registry) -> None:
    process = fleet.start(Process("p1", broken={NEW}))
    with pytest.raises(RolloutFailed):
        fleet.promote(NEW)
    process.broken.clear()

    fleet.promote(NEW)

    assert process.engine.version == registry.live() == NEW


def test_a_process_that_never_answers_aborts_the_rollout_at_its_deadline(fleet: Fleet, clock: Clock) -> None:
    process = fleet.start(Process("p1", executor=Held()))
    began_at = clock.now

    with pytest.raises(RolloutFailed, match="process p1 did not answer within 60 s"):
        fleet.promote(NEW)

    assert process.engine.version == OLD
    assert clock.now - began_at == pytest.approx(PACE.deadline_s, abs=2 * PACE.poll_s)


@pytest.mark.parametrize(
    ("for_s", "told"),
    [
        (PACE.deadline_s, "process of this promote did not answer within 60 s"),
        (TURN.lease_s, "held up, and another rollout took its place"),
    ],
    ids=["its deadline", "its lease"],
)
def test_a_promote_that_was_held_up_past_its_time_and_overtaken_moves_nothing(
    fleet: Fleet, backend: Backend, registry: Registry, *, for_s: float, told: str
) -> None:
    process = fleet.start(Process("p1"))
    backend.index.add(entry(LATER, State.PASSED), note=NOTE)

    def be_overtaken() -> None:
        fleet.step()  # which prepares it and votes
        fleet.wait(for_s)
        fleet.promote(LATER)

    with pytest.raises(RolloutFailed, match=told):
        fleet.coordinator.promote(NEW, note=NOTE, check=be_overtaken)

    assert NEW in process.prepared
    assert process.engine.version == registry.live() == LATER
    assert registry.get(NEW).state is State.PASSED


def test_a_killed_process_is_not_waited_for_beyond_its_lease(fleet: Fleet, clock: Clock) -> None:
    fleet.start(Process("alive"))
    fleet.start(Process("killed"))
    del fleet.running["killed"]
    began_at = clock.now

    result = fleet.promote(NEW)

    assert result.processes == {"alive": NEW}
    assert clock.now - began_at < PACE.deadline_s / 2


def test_a_process_killed_between_its_vote_and_its_swap_does_not_hold_the_promote_up(fleet: Fleet) -> None:
    fleet.start(Process("alive"))
    fleet.start(Process("killed"))
    fleet.meanwhile = lambda: fleet.running.pop("killed", None)

    result = fleet.promote(NEW)

    assert result.processes == {"alive": NEW}


def test_a_process_that_starts_within_a_rollout_is_waited_for(fleet: Fleet) -> None:
    held, late = Held(), Process("late")
    fleet.start(Process("p1", executor=held))

    def start_late() -> None:
        if "late" not in fleet.running:
            fleet.start(late)
            held.let_go()

    fleet.meanwhile = start_late
    result = fleet.promote(NEW)

    assert late.prepared == [OLD, NEW]
    assert result.processes == {"late": NEW, "p1": NEW}


def test_a_second_promote_is_refused_while_one_is_under_way(fleet: Fleet, registry: Registry) -> None:
    fleet.start(Process("p1"))
    refusals: list[str] = []

    def promote_too() -> None:
        if registry.live() == OLD:
            with pytest.raises(RolloutUnderWay, match="one rollout runs at a time"):
                fleet.promote(NEW)
            refusals.append(NEW)

    fleet.meanwhile = promote_too
    result = fleet.promote(NEW)

    assert refusals
    assert result.complete


def begun_and_killed(fleet: Fleet, version: str, clock: Clock) -> None:
    """What a coordinator leaves that is killed right after it has begun."""
    assert fleet.turn()()
    fleet.rollouts.begin(version, deadline=clock.now + PACE.deadline_s)


def test_a_killed_coordinator_blocks_nobody_for_longer_than_its_lease(fleet: Fleet, clock: Clock) -> None:
    process = fleet.start(Process("p1"))
    begun_and_killed(fleet, NEW, clock)
    fleet.step()
    fleet.wait(TURN.lease_s - 1)
    with pytest.raises(RolloutUnderWay, match=f"{NEW}.*at the latest in 46 s, or in 15 s where .* was killed"):
        fleet.promote(NEW)

    fleet.wait(1)

    assert process.engine.version == OLD
    assert fleet.promote(NEW).complete


def test_a_coordinator_killed_before_it_began_blocks_nobody_for_longer_than_its_lease(fleet: Fleet) -> None:
    assert fleet.turn()()
    with pytest.raises(RolloutUnderWay, match="another version is being rolled out"):
        fleet.promote(NEW)

    fleet.wait(TURN.lease_s)

    assert fleet.promote(NEW).complete


def test_a_coordinator_killed_after_the_pointer_moved_blocks_nobody_for_longer_than_its_lease(
    fleet: Fleet, registry: Registry, clock: Clock
) -> None:
    fleet.start(Process("p1"))
    begun_and_killed(fleet, NEW, clock)
    registry.go_live(NEW, note=NOTE)
    fleet.wait(TURN.lease_s)

    assert fleet.promote(OLD).complete
    assert registry.live() == OLD


def test_a_coordinator_that_waits_for_longer_than_its_lease_is_not_taken_for_dead(
    fleet: Fleet, registry: Registry, clock: Clock
) -> None:
    held = Held()
    fleet.start(Process("p1", executor=held))
    began_at = clock.now
    refused: list[float] = []

    def promote_too() -> None:
        if clock.now - began_at > 3 * TURN.lease_s:
            held.let_go()
        elif int(clock.now) % 5 == 0:
            with pytest.raises(RolloutUnderWay):
                fleet.promote(NEW)
            refused.append(clock.now)

    fleet.meanwhile = promote_too
    assert fleet.promote(NEW).complete

    assert refused[-1] - began_at > 2 * TURN.lease_s
    assert registry.live() == NEW


def test_a_coordinator_killed_after_the_clock_was_set_back_blocks_nobody_for_longer_than_its_lease(
    fleet: Fleet, clock: Clock
) -> None:
    killed = fleet.turn()
    assert killed()
    clock.advance(-3600)
    assert killed()  # as at each of its looks
    fleet.wait(TURN.lease_s)

    assert fleet.promote(NEW).complete


def test_a_promote_of_what_is_live_only_looks(fleet: Fleet, registry: Registry) -> None:
    fleet.start(Process("p1"))
    before = registry.history()

    result = fleet.promote(OLD)

    assert result.processes == {"p1": OLD}
    assert registry.history() == before


def test_a_rollback_is_a_promote_of_the_version_before(fleet: Fleet, registry: Registry) -> None:
    process = fleet.start(Process("p1"))
    fleet.promote(NEW)

    fleet.promote(registry.previous_live())

    assert process.engine.version == registry.live() == OLD
    assert registry.get(NEW).state is State.RETIRED


def test_a_version_that_is_not_there_is_refused_before_anyone_prepares(fleet: Fleet) -> None:
    process = fleet.start(Process("p1"))

    with pytest.raises(UnknownVersion):
        fleet.promote("20200101T000000Z-abcdef")

    assert process.prepared == [OLD]


def test_a_rejected_version_goes_live_by_force_with_a_reason(fleet: Fleet, backend: Backend) -> None:
    process = fleet.start(Process("p1"))
    backend.index.add(entry(REJECTED, State.REJECTED), note=NOTE)
    with pytest.raises(IllegalTransition):
        fleet.promote(REJECTED)
    with pytest.raises(UnreasonedForce):
        Note("ana", "", force=True)

    fleet.coordinator.promote(REJECTED, note=Note("ana", "the holdout is broken", force=True))

    assert process.engine.version == REJECTED
    assert backend.index.history()[-1].forced


def test_a_store_that_goes_away_within_a_rollout_ends_it_and_moves_nothing(fleet: Fleet, registry: Registry) -> None:
    process = fleet.start(Process("p1", executor=Held()))

    def lose_the_store() -> None:
        fleet.store_is_away = StoreUnavailable("redis", "connection refused")

    fleet.meanwhile = lose_the_store
    with pytest.raises(StoreUnavailable, match="connection refused"):
        fleet.promote(NEW)

    assert process.engine.version == registry.live() == OLD
    assert registry.get(NEW).state is State.PASSED


def test_a_promote_that_lost_its_store_can_be_made_again_at_the_latest_after_its_lease(fleet: Fleet) -> None:
    held = Held()
    process = fleet.start(Process("p1", executor=held))

    def lose_the_store() -> None:
        fleet.store_is_away = StoreUnavailable("redis", "connection refused")

    fleet.meanwhile = lose_the_store
    with pytest.raises(StoreUnavailable):
        fleet.promote(NEW)
    fleet.meanwhile, fleet.store_is_away = held.let_go, None
    with pytest.raises(RolloutUnderWay, match="at the latest in"):
        fleet.promote(NEW)
    fleet.wait(TURN.lease_s)

    assert fleet.promote(NEW).complete
    assert process.engine.version == NEW


def test_a_refusal_is_told_even_where_the_store_goes_away_right_after_it(fleet: Fleet, registry: Registry) -> None:
    fleet.start(Process("p1"))

    def refuse_and_lose_the_store() -> None:
        fleet.store_is_away = StoreUnavailable("redis", "connection refused")
        raise RuntimeError("the gate's word is of another live version")

    with pytest.raises(RuntimeError, match="the gate's word"):
        fleet.coordinator.promote(NEW, note=NOTE, check=refuse_and_lose_the_store)

    assert registry.live() == OLD


def test_a_process_that_died_between_prepare_and_commit_takes_what_is_live_when_it_returns(fleet: Fleet) -> None:
    fleet.start(Process("alive"))
    fleet.start(Process("killed"))
    fleet.meanwhile = lambda: fleet.running.pop("killed", None)
    fleet.promote(NEW)

    returned = fleet.start(Process("returned"))

    assert (returned.prepared, returned.engine.version) == ([NEW], NEW)


def test_a_process_that_died_before_its_vote_holds_nothing_up_and_every_other_swaps(
    fleet: Fleet, registry: Registry
) -> None:
    alive = fleet.start(Process("alive"))
    fleet.start(Process("killed", executor=Held()))
    fleet.meanwhile = lambda: fleet.running.pop("killed", None)

    assert fleet.promote(NEW).processes == {"alive": NEW}
    assert alive.engine.version == registry.live() == NEW


@contextmanager
def on_redis(folder: Path, clock: Clock, *, keeps: str) -> Iterator[tuple[Fleet, RedisServer]]:
    """A fleet on a Redis of its own, which keeps what it is told over a kill ("yes") or does not ("no")."""
    with redis_server(folder / "redis", options={"appendonly": keeps}) as server:
        store = open_redis(server.url, clock=clock, timeout_s=PATIENT_S)
        store.index.add(entry(OLD, State.LIVE), note=NOTE)
        store.index.add(entry(NEW, State.PASSED), note=NOTE)
        yield Fleet(Registry(store.index, LocalBundles(folder)), store, clock), server


def test_a_rollout_goes_on_over_a_restart_of_a_redis_that_keeps_what_it_is_told(tmp_path: Path, clock: Clock) -> None:
    with on_redis(tmp_path, clock, keeps="yes") as (fleet, server):
        held = Held()
        quick, slow = fleet.start(Process("p1")), fleet.start(Process("p2", executor=held))
        steps = iter([server.kill, held.let_go])

        def restart_and_let_go() -> None:
            next(steps, lambda: None)()
            if not server.running:
                server.start()

        fleet.meanwhile = restart_and_let_go
        assert fleet.promote(NEW).processes == {"p1": NEW, "p2": NEW}

        assert quick.engine.version == slow.engine.version == NEW
        assert quick.prepared == [OLD, NEW]


def test_a_redis_that_comes_back_empty_within_a_rollout_ends_it_and_every_process_serves_on(
    tmp_path: Path, clock: Clock
) -> None:
    with on_redis(tmp_path, clock, keeps="no") as (fleet, server):
        process = fleet.start(Process("p1", executor=Held()))

        def restart() -> None:
            server.kill()
            server.start()

        fleet.meanwhile = restart
        with pytest.raises((StoreUnavailable, RolloutFailed, UnknownVersion)):
            fleet.promote(NEW)
        fleet.wait(PACE.deadline_s)

        assert process.engine.version == OLD
