"""The coordinator of a rollout: every serving process prepares a version, and then the live pointer moves."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from service.errors import RolloutFailed, RolloutUnderWay, StoreUnavailable
from service.registry import Registry
from service.store.ports import Lease, Note, Outcome, Rollout, RolloutStore
from service.turns import OneAtATime


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
class Meeting:
    """Where a coordinator meets the serving processes, and other coordinators.

    turn: a claim to be the only one that rolls out, each call's of a holder of its own; a killed one's runs out.
    """

    rollouts: RolloutStore
    turn: Callable[[], OneAtATime]


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

    def __init__(self, registry: Registry, meeting: Meeting, *, time: Time, pace: Pace) -> None:
        self._registry = registry
        self._store = meeting.rollouts
        self._turn = meeting.turn
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
            with self._alone() as turn:
                self._commit(version, note, check=check, turn=turn)
        return self._settled(version)

    @contextmanager
    def _alone(self) -> Iterator[OneAtATime]:
        """Roll out while nobody else does. Raises RolloutUnderWay, no longer than a lease after another was killed."""
        turn = self._turn()
        if not turn():
            under_way, now = self._store.current(), self._time.clock()
            remaining_s = under_way.deadline - now if under_way else self._pace.deadline_s
            version = under_way.version if under_way else None
            raise RolloutUnderWay(version, remaining_s=remaining_s, lease_s=turn.lease_s)
        try:
            yield turn
        finally:
            with suppress(StoreUnavailable):  # then it runs out
                turn.give_back()

    def _commit(self, version: str, note: Note, *, check: Callable[[], object], turn: OneAtATime) -> None:
        if abandoned := self._store.current():  # by a coordinator that was killed, or it would have the turn
            self._store.finish(abandoned.id, Outcome.EXPIRED)
        rollout = self._store.begin(version, deadline=self._time.clock() + self._pace.deadline_s)
        outcome = Outcome.ABORTED
        try:
            with turn.kept():
                check()
            self._await_votes(rollout, turn)
            self._registry.go_live(version, note=note)
            outcome = Outcome.COMMITTED
        finally:
            with suppress(StoreUnavailable):  # then the next promote ends it
                self._store.finish(rollout.id, outcome)

    def _await_votes(self, rollout: Rollout, turn: OneAtATime) -> None:
        """Return when every leased process is prepared; one that stops or starts meanwhile is counted out or in.

        Past the deadline, and past a lease that was not renewed, nothing may move, whoever was slow: another rollout
        may have begun or ended since.
        """
        while True:
            ours = turn()
            pending = self._pending(rollout)
            if self._time.clock() >= rollout.deadline:
                who = pending[0] if pending else "of this promote"
                detail = f"did not answer within {self._pace.deadline_s:.0f} s"
                raise RolloutFailed(rollout.version, process=who, detail=detail)
            if not ours or (not pending and self._store.current() != rollout):
                detail = "was held up, and another rollout took its place or the store has lost it"
                raise RolloutFailed(rollout.version, process="of this promote", detail=detail)
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
