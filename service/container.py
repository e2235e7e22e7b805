"""The object graph of one process. The only file that names a backend."""

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from service.background import Background
from service.engine import Engine, Live
from service.follower import Follower, FollowerParts
from service.home import Home
from service.preparation import prepare
from service.ranker import Ranker
from service.readiness import Readiness
from service.registry import Registry
from service.rollout import Coordinator, Pace, Time
from service.settings import Settings
from service.store.ports import FeatureStore
from service.store.sqlite import Database
from service.store.sqlite_features import SqliteFeatureStore
from service.store.sqlite_registry import SqliteRegistryIndex
from service.store.sqlite_rollout import SqliteRolloutStore
from service.telemetry import Metrics


@dataclass(frozen=True)
class Container:
    """Every part that the API and the command line use, wired.

    prepare: a registered version made ready, without serving it; clock: epoch seconds; stopwatch: monotonic seconds.
    """

    settings: Settings
    home: Home
    features: FeatureStore
    registry: Registry
    coordinator: Coordinator
    engine: Engine
    background: Background
    ranker: Ranker
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
    database = Database(home.store)
    features = SqliteFeatureStore(database)
    registry = Registry(SqliteRegistryIndex(database, time.time), home.bundles)
    rollouts = SqliteRolloutStore(database, time.time)
    engine, metrics = Engine(), Metrics(metrics_folder)
    pace = Pace(settings.rollout_deadline_s, settings.lease_timeout_s, settings.poll_s)
    ready_version = partial(_prepare, registry, features)
    executor = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prepare")
    parts = FollowerParts(
        process=f"{socket.gethostname()}:{os.getpid()}",
        engine=engine,
        rollouts=rollouts,
        pointer=registry.live,
        prepare=ready_version,
        refresh=partial(_refresh, features),
        executor=executor,
        clock=time.time,
        pace=pace,
    )
    return Container(
        settings=settings,
        home=home,
        features=features,
        registry=registry,
        coordinator=Coordinator(registry, rollouts, time=Time(time.time, time.sleep), pace=pace),
        engine=engine,
        background=Background(Follower(parts), executor),
        ranker=Ranker(features, engine, meter=metrics, clock=time.perf_counter),
        readiness=Readiness(engine),
        metrics=metrics,
        prepare=ready_version,
        clock=time.time,
        stopwatch=time.perf_counter,
    )


def _prepare(registry: Registry, features: FeatureStore, version: str) -> Live:
    return prepare(registry.folder(version), features)


def _refresh(features: FeatureStore, live: Live) -> None:
    live.shelf.refresh(features.apps_since(live.shelf.sequence))
