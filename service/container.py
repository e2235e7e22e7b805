"""The object graph of one process. The only file that names a backend."""

import os
import socket
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

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
from service.preparation import prepare
from service.ranker import Ranker, RankerParts
from service.readiness import Readiness
from service.registry import Registry
from service.restocking import Restocker
from service.rollout import Coordinator, Pace, Time
from service.settings import DAY_S, Settings
from service.store.backend import Backend
from service.store.job_ports import JobStore
from service.store.log_ports import EventLog
from service.store.ports import FeatureStore
from service.store.redis_backend import open_redis
from service.store.redis_client import RedisLink
from service.store.sqlite_backend import open_sqlite
from service.telemetry import Metrics
from service.turns import OneAtATime, Turn

SETTLE_EVERY_S = 0.5
TRIM_EVERY_S = 600.0


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
    backend = _open(settings, home)
    features, rollouts = backend.features, backend.rollouts
    shared = settings.bundles_url
    bundles: BundleStore = SharedBundles(shared, home.bundles) if shared else LocalBundles(home.bundles)
    registry = Registry(backend.index, bundles)
    engine, metrics = Engine(), Metrics(metrics_folder)
    pace = Pace(settings.rollout_deadline_s, settings.lease_timeout_s, settings.poll_s)
    ready_version = partial(_prepare, registry, features)
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
    copy = CatalogueCopy(home.catalogue)
    last_seen = LastSeen(home.pointer, copy, folder=bundles.fetch)
    process = f"{socket.gethostname()}:{os.getpid()}"
    impressions = ImpressionWriter(backend.log, capacity=settings.impression_buffer, meter=metrics)
    parts = FollowerParts(
        process=process,
        engine=engine,
        rollouts=rollouts,
        pointer=registry.live,
        prepare=ready_version,
        refresh=Restocker(features, copy=copy if settings.redis_url else None, clock=time.monotonic),
        remember=last_seen.remember,
        recall=last_seen.prepare,
        executor=executor,
        clock=time.time,
        pace=pace,
    )
    return Container(
        settings=settings,
        home=home,
        features=features,
        log=backend.log,
        jobs=backend.jobs,
        queue=JobQueue(backend.jobs, cache(partial(_broker, settings, home)), time=Time(time.time, time.sleep)),
        bundles=bundles,
        registry=registry,
        coordinator=Coordinator(registry, rollouts, time=Time(time.time, time.sleep), pace=pace),
        engine=engine,
        background=Background(
            Follower(parts), executor, beside=(impressions, *_log_work(settings, backend, process=process))
        ),
        ranker=Ranker(
            UserFetcher(features, copies=settings.user_copies, breaker=Breaker(time.monotonic)),
            engine,
            parts=RankerParts(metrics, time.perf_counter, time.time, settings.rank_budget_s, impressions.record),
        ),
        impressions=impressions,
        intake=_intake(settings, backend.log, flush=impressions.flush),
        readiness=Readiness(engine),
        metrics=metrics,
        prepare=ready_version,
        clock=time.time,
        stopwatch=time.perf_counter,
    )


def _open(settings: Settings, home: Home) -> Backend:
    if settings.redis_url is None:
        return open_sqlite(home, time.time)
    return open_redis(settings.redis_url.get_secret_value(), clock=time.time, timeout_s=settings.redis_timeout_s)


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
    kept = Kept(settings.log_keep_days, settings.log_keep_impressions)

    def trim() -> None:
        if trimming():
            trim_log(backend.log, kept, now=time.time())

    return (
        Repeated("settling", settler.settle, every_s=SETTLE_EVERY_S, last=settler.leave),
        Repeated("trimming", trim, every_s=TRIM_EVERY_S, last=trimming.give_back),
    )


def _prepare(registry: Registry, features: FeatureStore, version: str) -> Live:
    return prepare(registry.folder(version), features)
