"""What operators see: JSON log lines with the request's id, and Prometheus metrics right under several workers."""

import collections
import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.registry import Collector

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that this task or thread works for."""

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder where processes of one server share their counts."""

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
CANDIDATE_BUCKETS = (1, 10, 50, 100, 200, 500, 1_000, 10_000, 100_000)


class JsonLines(logging.Formatter):
    """One JSON object a line: at, level, logger, message, request_id, what `extra={"facts": {...}}` adds, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """The line for one record."""
        line: dict[str, object] = {
            "at": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if request_id := REQUEST_ID.get():
            line["request_id"] = request_id
        line |= getattr(record, "facts", {})
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, default=str)


def log_to_stdout(level: str) -> None:
    """Send every logger's lines to standard output as JSON; `level` is a name such as info. Replaces what was set."""
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonLines())
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)


class Metrics:
    """Every metric of one process.

    folder: what METRICS_FOLDER named when prometheus_client was imported, or None for a process alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._own = CollectorRegistry()
        self.request_seconds = Histogram(
            "appshelf_request_seconds",
            "Time from taking a request to the end of its answer",
            ("route", "outcome"),
            buckets=LATENCY_BUCKETS_S,
            registry=self._own,
        )
        self.ranked_candidates = Histogram(
            "appshelf_ranked_candidates",
            "Candidates scored for one request",
            buckets=CANDIDATE_BUCKETS,
            registry=self._own,
        )
        self.value_status = Counter(
            "appshelf_field_values",
            "Values of a request's fields that were missing, null or unknown to the vocabulary",
            ("field", "status"),
            registry=self._own,
        )
        self.degraded = Counter(
            "appshelf_degraded_answers", "Answers given without a part", ("missing",), registry=self._own
        )

        self.impressions = Counter("appshelf_impressions", "Impressions written to the log", registry=self._own)
        self.impressions_dropped = Counter(
            "appshelf_impressions_dropped", "Impressions that never reached the log", ("reason",), registry=self._own
        )
        self.events = Counter("appshelf_events", "Events by what became of them", ("status",), registry=self._own)

    def ranked(self, *, count: int, statuses: Mapping[str, str], degraded: Iterable[str]) -> None:
        """Count one ranking: candidates scored, the odd values of its query by field, and what was missing."""
        self.ranked_candidates.observe(count)
        for field, status in statuses.items():
            self.value_status.labels(field, status).inc()
        for missing in degraded:
            self.degraded.labels(missing).inc()

    def impressions_kept(self, count: int) -> None:
        """Count impressions that are in the log."""
        self.impressions.inc(count)

    def impressions_lost(self, reason: str, *, count: int) -> None:
        """Count impressions that were dropped, and why."""
        self.impressions_dropped.labels(reason).inc(count)

    def events_judged(self, statuses: Iterable[str]) -> None:
        """Count what became of the events of one batch."""
        for status, count in collections.Counter(statuses).items():
            self.events.labels(status).inc(count)

    def answered(self, route: str, status: int, *, seconds: float) -> None:
        """Count one HTTP answer."""
        outcome = "ok" if status < 400 else "refused" if status < 500 else "failed"
        self.request_seconds.labels(route, outcome).observe(seconds)

    def expose(self, live_version: Callable[[], str | None]) -> bytes:
        """The text that Prometheus scrapes, summed over every process that shares the folder."""
        scraped = CollectorRegistry(auto_describe=False)
        if self._folder is None:
            scraped.register(_Passed(self._own))
        else:
            MultiProcessCollector(scraped, str(self._folder))  # type: ignore[no-untyped-call]  # ships no annotations
        scraped.register(_LiveVersion(live_version))
        return generate_latest(scraped)


class _Passed(Collector):
    """A registry read as a part of another."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        yield from self._registry.collect()


class _LiveVersion(Collector):
    """The one metric with a version label, made at the scrape so that no old version lingers in it."""

    def __init__(self, live_version: Callable[[], str | None]) -> None:
        self._live_version = live_version

    def collect(self) -> Iterator[Metric]:
        family = GaugeMetricFamily("appshelf_live_version_info", "1 for the version that serves", labels=["version"])
        if version := self._live_version():
            family.add_metric([version], 1)
        yield family
