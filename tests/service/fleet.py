"""Serving processes without processes: followers on one store, driven by the coordinator's waiting."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ParamSpec, TypeVar
from weakref import WeakSet

from service.engine import Engine, Live
from service.follower import Follower, FollowerParts
from service.registry import Registry
from service.rollout import Coordinator, Meeting, Pace, RolloutResult, Time
from service.store.backend import Backend
from service.store.ports import Note
from service.turns import OneAtATime, Turn
from tests.service.clock import Clock

P = ParamSpec("P")
T = TypeVar("T")

PACE = Pace(deadline_s=60, lease_timeout_s=5, poll_s=0.2)
TURN = Turn("rollout", lease_s=15)


def live(version: str) -> Live:
    """A version whose scorer and shelf nobody looks at."""
    unseen: Any = None
    return Live(version, unseen, unseen, unseen, unseen)


class Inline(Executor):
    """Runs each call before `submit` returns."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except RuntimeError as error:
            future.set_exception(error)
        return future


class Held(Executor):
    """Runs calls when `let_go` is called."""

    def __init__(self) -> None:
        self._calls: list[Callable[[], None]] = []

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        self._calls.append(lambda: future.set_result(fn(*args, **kwargs)))
        return future

    def let_go(self) -> None:
        while self._calls:
            self._calls.pop(0)()


@dataclass
class Process:
    """One serving process: what it prepared, refreshed and let go, what it cannot, and whether its store answers."""

    name: str
    engine: Engine = field(default_factory=Engine)
    executor: Executor = field(default_factory=Inline)
    broken: set[str] = field(default_factory=set)
    prepared: list[str] = field(default_factory=list)
    refreshed: list[str] = field(default_factory=list)
    remembered: list[str] = field(default_factory=list)
    let_go: list[str] = field(default_factory=list)
    store_is_away: Exception | None = None
    _in_memory: WeakSet[Live] = field(default_factory=WeakSet)

    def prepare(self, version: str) -> Live:
        self.prepared.append(version)
        if version in self.broken:
            raise RuntimeError(f"{version}: weights.safetensors is truncated")
        made = live(version)
        self._in_memory.add(made)
        return made

    def alive_versions(self) -> set[str]:
        """The versions that something still holds in memory."""
        return {version.version for version in self._in_memory}

    def refresh(self, version: Live) -> None:
        self.refreshed.append(version.version)

    def recall(self) -> Live | None:
        return live(self.remembered[-1]) if self.remembered else None


class Reach:
    """A port of the store as one process reaches it, or as the coordinator does."""

    def __init__(self, port: Callable[[], object], who: "Process | Fleet") -> None:
        self._port = port
        self._who = who

    def __getattr__(self, method: str) -> object:
        if self._who.store_is_away:
            raise self._who.store_is_away
        return getattr(self._port(), method)


class Fleet:
    """Every process on one store: while the coordinator waits each of them steps, and then `meanwhile` happens.

    store_is_away: what the coordinator is told of it, None while it answers.
    """

    def __init__(self, registry: Registry, store: Backend, clock: Clock) -> None:
        self._registry = registry
        self.rollouts = store.rollouts
        self._jobs = store.jobs
        self._clock = clock
        self._promotes = count(1)
        self.running: dict[str, Follower] = {}
        self.meanwhile: Callable[[], object] = lambda: None
        self.store_is_away: Exception | None = None
        reach: Any = Reach(lambda: self.rollouts, self)
        self.coordinator = Coordinator(registry, Meeting(reach, self.turn), time=Time(clock, self.wait), pace=PACE)

    def turn(self) -> OneAtATime:
        """The claim of one more promote."""
        reach: Any = Reach(lambda: self._jobs, self)
        return OneAtATime(reach, TURN, holder=f"promote {next(self._promotes)}", clock=self._clock)

    def follower(self, process: Process) -> Follower:
        def pointer() -> str | None:
            if process.store_is_away:
                raise process.store_is_away
            return self._registry.live()

        reach: Any = Reach(lambda: self.rollouts, process)
        return Follower(
            FollowerParts(
                process=process.name,
                engine=process.engine,
                rollouts=reach,
                pointer=pointer,
                prepare=process.prepare,
                let_go=lambda former: process.let_go.append(former.version),
                refresh=process.refresh,
                remember=process.remembered.append,
                recall=process.recall,
                executor=process.executor,
                clock=self._clock,
                pace=PACE,
            )
        )

    def start(self, process: Process) -> Process:
        self.running[process.name] = self.follower(process)
        self.running[process.name].start()
        return process

    def wait(self, seconds: float) -> None:
        self._clock.advance(seconds)
        self.step()
        self.meanwhile()

    def step(self) -> None:
        for follower in list(self.running.values()):
            follower.step()

    def promote(self, version: str) -> RolloutResult:
        return self.coordinator.promote(version, note=Note("ana", "a test"))
