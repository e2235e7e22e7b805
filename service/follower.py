"""A serving process's part in rollouts: keep its lease, prepare what is asked, and swap when the live pointer moves."""

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextlib import suppress
from dataclasses import dataclass
from threading import Event

from service.engine import Engine, Live
from service.errors import StoreUnavailable
from service.rollout import Pace
from service.store.ports import Rollout, RolloutStore, Vote

AGAIN_AFTER_S = 60.0
"""Until a version that is live and could not be prepared is tried again."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FollowerParts:
    """What a follower works with.

    process: this process's name among the leases; pointer: reads the live version from the store; prepare: loads,
    dry-runs and warms up a version, or raises; let_go: gives back what a version held that serves no more; refresh:
    brings a version's shelf up to date with the catalogue; remember: keeps the version that serves for a start without
    the store, and recall gets that ready or is None; executor: where `prepare` and `let_go` run, so that heartbeats go
    on; clock: epoch seconds.
    """

    process: str
    engine: Engine
    rollouts: RolloutStore
    pointer: Callable[[], str | None]
    prepare: Callable[[str], Live]
    let_go: Callable[[Live], None]
    refresh: Callable[[Live], None]
    remember: Callable[[str], None]
    recall: Callable[[], Live | None]
    executor: Executor
    clock: Callable[[], float]
    pace: Pace


@dataclass(frozen=True)
class Goal:
    """A version to prepare: for a rollout, or because the live pointer names it."""

    version: str
    rollout: Rollout | None


@dataclass(frozen=True)
class Attempt:
    """One preparation, begun at `began_at` in epoch seconds."""

    goal: Goal
    future: Future[Live]
    began_at: float

    @property
    def prepared(self) -> Live | None:
        """The version ready to serve, None while it is loading or where it failed."""
        return self.future.result() if self.future.done() and not self.future.exception() else None


class Follower:
    """Follows the live pointer in one process. Driven by one thread: `start`, then `step` again and again, or `run`."""

    def __init__(self, parts: FollowerParts) -> None:
        self._parts = parts
        self._attempt: Attempt | None = None
        self._voted: Rollout | None = None  # all of it, since a store that lost everything counts from 1 again
        self._beat: tuple[str | None, float] | None = None
        self._trouble: str | None = None

    def start(self) -> None:
        """Take the live version, if there is one, and only then a lease; with the store away, take what served last.

        Raises what reading or preparing it raises, and StoreUnavailable where nothing served before.
        """
        try:
            if live := self._parts.pointer():
                self._swap(self._parts.prepare(live))
            self._heartbeat()
        except StoreUnavailable:
            if self._parts.engine.version is None and not self._recall():
                raise

    def run(self, stop: Event) -> None:
        """Step at its pace, or at once when the store has news, until `stop` is set; then give the lease back."""
        while not stop.is_set():
            self._parts.rollouts.wait(self._parts.pace.poll_s)
            if not stop.is_set():
                self.step()
        with suppress(StoreUnavailable):
            self._parts.rollouts.leave(self._parts.process)

    def step(self) -> None:
        """One turn. Nothing that goes wrong in it stops the version that serves."""
        try:
            self._turn()
            if self._trouble:
                log.warning("the store is followed again")
            self._trouble = None
        except Exception as error:  # a rollout step
            # An outage looks different from turn to turn, refused, timed out, loading, and is told of once.
            trouble = StoreUnavailable.__name__ if isinstance(error, StoreUnavailable) else str(error)
            if trouble != self._trouble:
                cause = None if isinstance(error, StoreUnavailable) else error  # an outage needs no traceback
                log.error("the live version serves on, but following the store failed: %s", error, exc_info=cause)
            self._trouble = trouble
            self._beat = self._voted = None  # the store may have lost either

    def _turn(self) -> None:
        self._heartbeat()
        # In this order: a rollout that ends between the two reads has moved the pointer before the second.
        rollout, live = self._parts.rollouts.current(), self._parts.pointer()
        self._take_over(live)
        self._seek(rollout, live)
        if rollout is not None:
            self._answer(rollout)
        self._heartbeat()
        if self._parts.engine.version is not None:
            self._parts.refresh(self._parts.engine.live())

    def _swap(self, prepared: Live) -> None:
        if former := self._parts.engine.swap(prepared):
            self._parts.executor.submit(self._parts.let_go, former)
        log.info("version %s serves, in precision %s", prepared.version, prepared.precision)
        self._parts.remember(prepared.version)

    def _recall(self) -> bool:
        """Serve what served last, from local files; the store is followed from there when it is back."""
        if recalled := self._parts.recall():
            self._parts.engine.swap(recalled)
            log.warning("the store is away; version %s serves, which was live when last seen", recalled.version)
        return recalled is not None

    def _heartbeat(self) -> None:
        """Renew the lease when a quarter of it is over, the version changed or the clock was set back.

        Not at every turn, since each beat costs the disk a write.
        """
        version, now = self._parts.engine.version, self._parts.clock()
        due = self._beat is None or not 0 <= now - self._beat[1] < self._parts.pace.lease_timeout_s / 4
        if due or (self._beat is not None and self._beat[0] != version):
            self._parts.rollouts.heartbeat(self._parts.process, version)
            self._beat = version, now

    def _take_over(self, live: str | None) -> None:
        """Swap to the prepared version once the live pointer names it."""
        attempt = self._attempt
        if attempt is not None and attempt.goal.version == live and attempt.prepared is not None:
            self._parts.refresh(attempt.prepared)
            self._swap(attempt.prepared)
            self._attempt = None

    def _seek(self, rollout: Rollout | None, live: str | None) -> None:
        """Begin to prepare what a rollout asks for, else what is live; let go of anything else that was prepared."""
        goal = Goal(rollout.version, rollout) if rollout else Goal(live, None) if live else None
        if self._attempt is not None and self._stands(self._attempt, goal):
            return
        self._attempt = None
        if goal is not None and goal.version != self._parts.engine.version:
            future = self._parts.executor.submit(self._parts.prepare, goal.version)
            future.add_done_callback(lambda done: _log_failure(goal.version, done))
            self._attempt = Attempt(goal, future, self._parts.clock())

    def _stands(self, attempt: Attempt, goal: Goal | None) -> bool:
        """True while it loads, and for the goal itself; a failed try at the live version is over after a while."""
        if not attempt.future.done() or attempt.goal != goal:
            return not attempt.future.done()
        young = self._parts.clock() - attempt.began_at < min(self._parts.pace.deadline_s, AGAIN_AFTER_S)
        return attempt.prepared is not None or attempt.goal.rollout is not None or young

    def _answer(self, rollout: Rollout) -> None:
        """Vote once in a rollout, when this process knows whether it is prepared."""
        if self._voted == rollout:
            return
        attempt = self._attempt
        if rollout.version == self._parts.engine.version:
            vote = Vote(self._parts.process, ok=True, detail="serves it already")
        elif attempt is None or attempt.goal.rollout != rollout or not attempt.future.done():
            return  # nothing for this rollout yet; what was prepared for another goal says nothing about it
        else:
            error = attempt.future.exception()
            detail = "prepared" if error is None else str(error) or repr(error)
            vote = Vote(self._parts.process, ok=error is None, detail=detail)
        self._parts.rollouts.vote(rollout.id, vote)
        self._voted = rollout


def _log_failure(version: str, done: Future[Live]) -> None:
    error = None if done.cancelled() else done.exception()
    if error is not None:
        log.error("version %s could not be prepared: %s", version, error, exc_info=error)
