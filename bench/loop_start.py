"""Where the loop's arms begin: a home whose log holds the past as the service would have logged it, and its version."""

import secrets
import shutil
import time
from collections.abc import Iterator

import polars as pl

from bench.population import past
from bench.server import Home
from model.data.dataset import Dataset
from model.data.queries import raw_values
from model.data.replay import with_history
from model.data.synthetic import World
from model.schema import Source
from model.training import TrainConfig
from service.container import Container, build
from service.demo import NETWORK
from service.importing import app_records, keep
from service.lifecycle import promote_version, train_version
from service.settings import Settings
from service.store.log_ports import INSTALL, Feedback, Impression, Shown
from service.store.ports import Note

BEGAN_S, ENDED_S = 7_200.0, 600.0
"""How long ago the past begins and ends in the log: the service's days are minutes."""

AT_ONCE = 2_000


def begin(home: Home, world: World, *, first_day: int) -> None:
    """Fill the home: users and apps of the past, its log, and a live version that learned all of it from scratch.

    The imported past is taken away again: it is in the log, and rows in both would be learned and judged by.
    """
    container = build(Settings.from_env(home.environ))
    dataset = past(world, first_day=first_day)
    keep(dataset, container.home, container.features)
    first = TrainConfig.model_validate(NETWORK)
    version = train_version(container, first, token=secrets.token_hex(3), progress=lambda _: None)
    promote_version(container, version, note=Note("bench", "its schema and settings start the loop", force=True))
    log_past(container, dataset)
    shutil.rmtree(container.home.data)
    home.appshelf("retrain", "--mode", "full", "--scratch", "--no-promote")
    learned = container.registry.versions()[-1].version
    container.coordinator.promote(learned, note=Note("bench", "day 0", force=True))


def log_past(container: Container, dataset: Dataset) -> None:
    """Put the past into the log, its times drawn together into the last hours, and settle it: histories know it."""
    impressions = list(impressions_of(dataset, now=time.time()))
    for start in range(0, len(impressions), AT_ONCE):
        shown = impressions[start : start + AT_ONCE]
        container.log.show(one for one, _ in shown)
        container.log.take([event for _, events in shown for event in events])
    while claimed := container.log.claim("bench", count=AT_ONCE, idle_s=60.0):
        container.log.settle(event.id for event in claimed)


def impressions_of(dataset: Dataset, *, now: float) -> Iterator[tuple[Impression, list[Feedback]]]:
    """Every request of a dataset as an impression, each value as of then, with the installs that came of it."""
    apps = {one.id: one.features for one in app_records(dataset.apps, dataset.schema)}
    rows = with_history(dataset, dataset.examples).sort("at", "request_id", "position")
    first, last = (rows["at"][place].timestamp() for place in (0, -1))
    scale = (BEGAN_S - ENDED_S) / (last - first)
    for _, request in rows.group_by("request_id", maintain_order=True):
        head = request.row(0, named=True)
        at = now - BEGAN_S + (head["at"].timestamp() - first) * scale
        yield (
            Impression(
                request_id=head["request_id"],
                at=at,
                version="the past",
                user_id=head["user_id"],
                user=raw_values(head, dataset.schema, source=Source.USER),
                context=raw_values(head, dataset.schema, source=Source.CONTEXT),
                history={one["app_id"]: one["count"] for one in head["history"]},
                items=tuple(
                    Shown(row["app_id"], row["position"], 0.0, apps[row["app_id"]], int(row["others"]))
                    for row in request.iter_rows(named=True)
                ),
            ),
            [installed(row, at) for row in request.filter(pl.col("label") == 1).iter_rows(named=True)],
        )


def installed(row: dict[str, str], at: float) -> Feedback:
    """The install of one row, just after it was shown."""
    name = f"{row['request_id']}:{row['app_id']}"
    return Feedback(name, INSTALL, at, at, row["app_id"], row["user_id"], row["request_id"], dated=False)
