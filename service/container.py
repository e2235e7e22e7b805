"""The object graph of one process. The only file that names a backend."""

import os
import secrets
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

from model.pauses import Pause, unpaused
from model.report import GateReport
from service.background import Background, Beside, Repeated
from service.breaker import Breaker
from service.bundles import BundleStore, LocalBundles, SharedBundles
from service.engine import Engine, Live
from service.feedback import Intake, IntakeLimits, Settler, SettlerParts
from service.fetching import UserFetcher
from service.follower import Follower, FollowerParts
from service.home import Home
from service.impressions import ImpressionWriter
from service.jobs.broker import Broker, redis_broker, sqlite_broker
from service.jobs.queue import JobQueue
from service.lastseen import CatalogueCopy, LastSeen
from service.log_keeping import Kept, trim_log
from service.precision import Resolver
from service.preparation import Preparation
from service.rank_desk import FETCHES, DeskLimits, RankDesk
from service.ranker import Ranker, RankerParts
from service.readiness import Readiness
from service.rebasing import Bases
from service.registry import Registry
from service.restocking import Restocker
from service.rests import Rests
from service.retention import needed
from service.rollout import Coordinator, Meeting, Pace, Time
from service.settings import DAY_S, Settings, variable
from service.stocking import LocalStock, StoreStock
from service.store.backend import Backend
from service.store.job_ports import JobStore
from service.store.log_ports import EventLog
from service.store.ports import FeatureStore
from service.store.redis_backend import open_redis
from service.store.redis_client import RedisLink
from service.store.sqlite_backend import open_sqlite
from service.tables import TableParts, Tables
from service.telemetry import FLUSH_EVERY_S, Metrics
from service.turns import OneAtATime, Turn

SETTLE_EVERY_S = 0.5
TRIM_EVERY_S = 600.0
REST = 6.0
"""Rests of a serving process after each step of what it does beside its requests, in the processor time of the step."""

LONGER = 5.0
"""How many times as long the rests are where memory is given back: each step stops the process's other threads too."""


@dataclass(frozen=True)
class Container:
    """Every part that the API and the command line use, wired.

    prepare: a registered version made ready, without serving it; clock: epoch seconds; stopwatch: monotonic seconds.
    """

    settings: Settings
    home: Home
    features: FeatureStore
    log: EventLog
    jobs: JobStore
    queue: JobQueue
    bundles: BundleStore
    registry: Registry
    coordinator: Coordinator
    engine: Engine
    background: Background
    ranker: Ranker
    desk: RankDesk
    impressions: ImpressionWriter
    intake: Intake
    readiness: Readiness
    metrics: Metrics
    prepare: Callable[[str], Live]
    clock: Callable[[], float]
    stopwatch: Callable[[], float]


def build(settings: Settings, *, metrics_folder: Path | None = None) -> Container:
    """Wire the parts for these settings and make the home's folders; no thread is started.

    metrics_folder: see Metrics. Raises HomeUnusable, StoreUnavailable, StoreTooNew.
    """
    home = Home(settings.home)
    home.ensure()
    backend, engine, metrics = _open(settings, home), Engine(), Metrics(metrics_folder)
    readiness, pace = Readiness(engine), Pace(settings.rollout_deadline_s, settings.lease_timeout_s, settings.poll_s)
    pause, slowly = _pauses_of(readiness)
    features, bundles = backend.features, _bundles(settings, home, pause)
    registry = Registry(backend.index, bundles)
    process = _own_name()
    coordinator = Coordinator(registry, _meeting(settings, backend), time=Time(time.time, time.sleep), pace=pace)
    tables = _tables(settings, registry, coordinator=coordinator, readiness=readiness)
    stock = StoreStock(features, tables, pause)
    preparation, unaided = _preparations(settings, engine, stock=stock, verdict=registry.verdict)
    ready_version = partial(_prepare, registry.folder, preparation)
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
    last_seen = LastSeen(home.pointer, prepare=partial(_prepare, bundles.fetch, unaided))
    impressions = ImpressionWriter(backend.log, capacity=settings.impression_buffer, meter=metrics)
    parts = FollowerParts(
        process=process,
        engine=engine,
        rollouts=backend.rollouts,
        pointer=registry.live,
        prepare=ready_version,
        let_go=lambda former: former.shelf.base.let_go(slowly),
        refresh=_restocker(settings, features, tables=tables, pause=slowly),
        remember=last_seen.remember,
        recall=last_seen.prepare,
        executor=executor,
        clock=time.time,
        pace=pace,
    )
    ranked = RankerParts(metrics, time.perf_counter, time.time, settings.rank_budget_s, impressions.record)
    users = UserFetcher(features, copies=settings.user_copies, breaker=Breaker(time.monotonic))
    ranker = Ranker(users.many, engine, parts=ranked)
    return Container(
        settings=settings,
        home=home,
        features=features,
        log=backend.log,
        jobs=backend.jobs,
        queue=JobQueue(backend.jobs, cache(partial(_broker, settings, home)), time=Time(time.time, time.sleep)),
        bundles=bundles,
        registry=registry,
        coordinator=coordinator,
        engine=engine,
        background=Background(
            Follower(parts),
            executor,
            beside=(impressions, *_log_work(settings, backend, process=process), _telling(metrics)),
        ),
        ranker=ranker,
        desk=_desk(settings, ranker),
        impressions=impressions,
        intake=_intake(settings, backend.log, flush=impressions.flush),
        readiness=readiness,
        metrics=metrics,
        prepare=ready_version,
        clock=time.time,
        stopwatch=time.perf_counter,
    )


def _open(settings: Settings, home: Home) -> Backend:
    if settings.redis_url is None:
        return open_sqlite(home, time.time)
    return open_redis(settings.redis_url.get_secret_value(), clock=time.time, timeout_s=settings.redis_timeout_s)


def _own_name() -> str:
    """A name that nobody else has: containers on their host's network share its name, and number processes alike."""
    return f"{socket.gethostname()}:{os.getpid()}:{secrets.token_hex(3)}"


def _meeting(settings: Settings, backend: Backend) -> Meeting:
    """Where coordinators meet; each promote has a claim of its own, since a process may be asked for two at once."""

    def turn() -> OneAtATime:
        return OneAtATime(backend.jobs, Turn("rollout", settings.job_lease_s), holder=_own_name(), clock=time.time)

    return Meeting(backend.rollouts, turn)


def _bundles(settings: Settings, home: Home, pause: Pause) -> BundleStore:
    if url := settings.bundles_url:
        return SharedBundles(url, home.bundles, pause=pause)
    return LocalBundles(home.bundles, pause=pause)


def check_addresses(settings: Settings) -> None:
    """Raise SettingsRefused or BundlesUrlRefused where Redis or the bundles have an address that no process could use.

    Nothing is connected: whether anything answers there is not looked at.
    """
    if settings.redis_url is not None:
        RedisLink(settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s)
    _bundles(settings, Home(settings.home), unpaused)


def _desk(settings: Settings, ranker: Ranker) -> RankDesk:
    """Where rankings wait for their turn; a store on this machine answers sooner than a thread could be asked to."""
    limits = DeskLimits(settings.max_under_way, settings.batch_limit, settings.shed_after_s)
    elsewhere = ThreadPoolExecutor(FETCHES, thread_name_prefix="fetch") if settings.redis_url else None
    return RankDesk(ranker, limits=limits, clock=time.perf_counter, elsewhere=elsewhere)


def _broker(settings: Settings, home: Home) -> Broker:
    if settings.redis_url is None:
        return sqlite_broker(home.queue)
    return redis_broker(RedisLink(settings.redis_url.get_secret_value(), timeout_s=settings.redis_timeout_s).ask)


def _intake(settings: Settings, log: EventLog, *, flush: Callable[[Iterable[str]], None]) -> Intake:
    limits = IntakeLimits(settings.attribution_window_s, settings.log_keep_days * DAY_S)
    return Intake(log, clock=time.time, limits=limits, flush=flush)


def _log_work(settings: Settings, backend: Backend, *, process: str) -> tuple[Beside, ...]:
    """What is done with the log while a process serves, by one process at a time: settle installs, and trim."""
    settling, trimming = (
        OneAtATime(backend.jobs, Turn(name), holder=process, clock=time.time) for name in ("settling", "trimming")
    )
    settler = Settler(SettlerParts(backend.log, backend.features, process, time.time, settling, settling.give_back))
    kept = Kept(settings.log_keep_days, settings.log_keep_impressions, settings.log_keep_events)

    def trim() -> None:
        if trimming():
            trim_log(backend.log, kept, now=time.time())

    return (
        Repeated("settling", settler.settle, every_s=SETTLE_EVERY_S, last=settler.leave),
        Repeated("trimming", trim, every_s=TRIM_EVERY_S, last=trimming.give_back),
    )


def _telling(metrics: Metrics) -> Beside:
    """Shares what is counted here with this server's other processes; last to stop, so that nothing is left untold."""
    return Repeated("metrics", metrics.flush, every_s=FLUSH_EVERY_S, last=metrics.flush)


def open_features(settings: Settings) -> FeatureStore:
    """The store of users and apps alone. Raises StoreUnavailable, StoreTooNew."""
    return _open(settings, Home(settings.home)).features


def _tables(settings: Settings, registry: Registry, *, coordinator: Coordinator, readiness: Readiness) -> Tables:
    parts = TableParts(
        bundle=registry.folder,
        needed=lambda: needed(registry),
        in_use=coordinator.in_use,
        environ=_store_environment(settings),
        within_s=settings.rollout_deadline_s,
        interrupted=lambda: readiness.draining,
        wait=time.sleep,
    )
    return Tables(Home(settings.home).tables, parts)


def _preparations(
    settings: Settings, engine: Engine, *, stock: StoreStock, verdict: Callable[[str], GateReport | None]
) -> tuple[Preparation, Preparation]:
    """What makes versions ready from the store, and what does so without it."""
    resolver = Resolver(settings.precision, verdict)
    preparation = Preparation(stock, resolver, settings.user_rows, engine.recent, stock.pause)
    copy = CatalogueCopy(Home(settings.home).catalogue)
    return preparation, replace(preparation, stock=LocalStock(copy, stock.tables, stock.pause))


def _restocker(settings: Settings, features: FeatureStore, *, tables: Tables, pause: Pause) -> Restocker:
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="rebase")
    bases = Bases(tables, executor, clock=time.monotonic, pause=pause)
    copied = CatalogueCopy(Home(settings.home).catalogue) if settings.redis_url else None
    return Restocker(features, copy=copied, bases=bases, clock=time.monotonic)


def _store_environment(settings: Settings) -> dict[str, str]:
    """An environment in which another process finds the same store, with settings that fit together as these do."""
    store = {variable("home"): str(settings.home.absolute())}
    if settings.redis_url is not None:
        store[variable("redis_url")] = settings.redis_url.get_secret_value()
    return {name: value for name, value in os.environ.items() if name != variable("redis_url")} | store


def _prepare(folder: Callable[[str], Path], preparation: Preparation, version: str) -> Live:
    return preparation(folder(version))


def _pauses_of(readiness: Readiness) -> tuple[Pause, Pause]:
    """Between two steps of what a serving process does beside its requests, and longer.

    None while it serves nobody, and none while it ends, which is not to wait for them.
    """
    rest = Rests(REST, clock=time.thread_time, wait=time.sleep)

    def pause(times: float) -> None:
        if readiness.obstacle is None:
            rest(times=times)

    return partial(pause, 1.0), partial(pause, LONGER)
