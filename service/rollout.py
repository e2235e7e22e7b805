"""The coordinator of a rollout: every serving process prepares a version, and then the live pointer moves."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from service.errors import RolloutFailed, StoreUnavailable
from service.registry import Registry
from service.store.ports import Lease, Note, Outcome, Rollout, RolloutStore


@dataclass(frozen=True)
class Pace:
    """The times of a rollout in seconds: to prepare, until a silent process is gone, and between two looks."""

    deadline_s: float
    lease_timeout_s: float
    poll_s: float


@dataclass(frozen=True)
class Time:
    """`clock` gives epoch seconds, the same for every process; `wait` passes that many seconds."""

    clock: Callable[[], float]
    wait: Callable[[float], None]


@dataclass(frozen=True)
class RolloutResult:
    """What each leased process serves when the coordinator stops looking."""

    version: str
    processes: Mapping[str, str | None]

    @property
    def complete(self) -> bool:
        """True when every process serves the version."""
        return all(version == self.version for version in self.processes.values())


class Coordinator:
    """Takes one version live over all serving processes, whichever process it runs in."""

    def __init__(self, registry: Registry, store: RolloutStore, *, time: Time, pace: Pace) -> None:
        self._registry = registry
        self._store = store
        self._time = time
        self._pace = pace

    def in_use(self) -> frozenset[str]:
        """The versions that some process serves or is asked to prepare."""
        under_way = self._store.current()
        served = {lease.version for lease in self._alive() if lease.version}
        return frozenset(served | ({under_way.version} if under_way else set()))

    def promote(self, version: str, *, note: Note, check: Callable[[], object] = lambda: None) -> RolloutResult:
        """Roll out a version that may go live; where it is live already, only look at the processes.

        check: called when the rollout has begun, so that no other can move the pointer; what it raises aborts it.
        Raises that, UnknownVersion, IllegalTransition, RolloutUnderWay, and RolloutFailed when a process could not
        prepare it or did not answer in time; then the former version serves on. Raises StoreUnavailable where the store
        went away: then nothing moved, unless that was lost which said so, and to promote again tells.
        """
        if self._registry.live() != version:
            self._registry.check_promotable(version, note=note)
            self._close_committed()
            self._commit(version, note, check)
        return self._settled(version)

    def _close_committed(self) -> None:
        """End a rollout whose version is live already: its coordinator was killed before it could."""
        under_way = self._store.current()
        if under_way is not None and under_way.version == self._registry.live():
            self._store.finish(under_way.id, Outcome.COMMITTED)

    def _commit(self, version: str, note: Note, check: Callable[[], object]) -> None:
        rollout = self._store.begin(version, deadline=self._time.clock() + self._pace.deadline_s)
        outcome = Outcome.ABORTED
        try:
            check()
            self._await_votes(rollout)
            self._registry.go_live(version, note=note)
            outcome = Outcome.COMMITTED
        finally:
            with suppress(StoreUnavailable):  # its deadline ends an aborted one, and the next promote a committed one
                self._store.finish(rollout.id, outcome)

    def _await_votes(self, rollout: Rollout) -> None:
        """Return when every leased process is prepared; one that stops or starts meanwhile is counted out or in.

        Past the deadline nothing may move, whoever was slow: another rollout may have begun or ended since.
        """
        while True:
            pending = self._pending(rollout)
            if self._time.clock() >= rollout.deadline:
                who = pending[0] if pending else "of this promote"
                detail = f"did not answer within {self._pace.deadline_s:.0f} s"
                raise RolloutFailed(rollout.version, process=who, detail=detail)
            if not pending:
                return
            self._time.wait(self._pace.poll_s)

    def _pending(self, rollout: Rollout) -> list[str]:
        votes = self._store.votes(rollout.id)
        for vote in votes:
            if not vote.ok:
                raise RolloutFailed(
                    rollout.version, process=vote.process, detail=f"could not prepare it: {vote.detail}"
                )
        voted = {vote.process for vote in votes}
        return [lease.process for lease in self._alive() if lease.process not in voted]

    def _settled(self, version: str) -> RolloutResult:
        """Wait until every process serves the version, at most as long as the lease of a dead one lasts."""
        until = self._time.clock() + self._pace.lease_timeout_s
        while True:
            result = RolloutResult(version, {lease.process: lease.version for lease in self._alive()})
            if result.complete or self._time.clock() >= until:
                return result
            self._time.wait(self._pace.poll_s)

    def _alive(self) -> tuple[Lease, ...]:
        return self._store.leases(alive_since=self._time.clock() - self._pace.lease_timeout_s)
