"""What operators see: JSON log lines with the request's id, and Prometheus metrics right under several workers."""

import json
import logging
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from service.counts import Counts, Family

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The id of the request that this task or thread works for."""

METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""The variable that names the folder where processes of one server share their counts."""

FLUSH_EVERY_S = 0.25
"""How far the counts of the other processes may lag behind in a scrape."""

CLIENT_LEFT = 499
"""The status that is counted where whoever asked went away before there was an answer, as nginx writes it."""

LATENCY_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
CANDIDATE_BUCKETS = (1, 10, 50, 100, 200, 500, 1_000, 10_000, 100_000)

REQUEST_SECONDS = Family(
    "appshelf_request_seconds",
    "Time from taking a request to the end of its answer",
    labels=("outcome", "route"),
    bounds=LATENCY_BUCKETS_S,
)
RANKED_CANDIDATES = Family("appshelf_ranked_candidates", "Candidates scored for one request", bounds=CANDIDATE_BUCKETS)
FIELD_VALUES = Family(
    "appshelf_field_values",
    "Values of a request's fields that were missing, null or unknown to the vocabulary",
    labels=("field", "status"),
)
DEGRADED = Family("appshelf_degraded_answers", "Answers given without a part", labels=("missing",))
IMPRESSIONS = Family("appshelf_impressions", "Impressions written to the log")
IMPRESSIONS_DROPPED = Family(
    "appshelf_impressions_dropped", "Impressions that never reached the log", labels=("reason",)
)
EVENTS = Family("appshelf_events", "Events by what became of them", labels=("status",))
FAMILIES = (REQUEST_SECONDS, RANKED_CANDIDATES, FIELD_VALUES, DEGRADED, IMPRESSIONS, IMPRESSIONS_DROPPED, EVENTS)


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

    folder: where the processes of one server share their counts, or None for a process alone.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._counts = Counts(FAMILIES, folder)

    def ranked(self, *, count: int, statuses: Mapping[str, str], degraded: Iterable[str]) -> None:
        """Count one ranking: candidates scored, the odd values of its query by field, and what was missing."""
        self._counts.observe(RANKED_CANDIDATES, count)
        if statuses:
            self._counts.add_each(FIELD_VALUES, statuses.items())
        for missing in degraded:
            self._counts.add(DEGRADED, (missing,))

    def impressions_kept(self, count: int) -> None:
        """Count impressions that are in the log."""
        self._counts.add(IMPRESSIONS, amount=count)

    def impressions_lost(self, reason: str, *, count: int) -> None:
        """Count impressions that were dropped, and why."""
        self._counts.add(IMPRESSIONS_DROPPED, (reason,), amount=count)

    def events_judged(self, statuses: Iterable[str]) -> None:
        """Count what became of the events of one batch."""
        self._counts.add_each(EVENTS, ((status,) for status in statuses))

    def answered(self, route: str, status: int, *, seconds: float) -> None:
        """Count one HTTP answer."""
        outcome = "ok" if status < 400 else "left" if status == CLIENT_LEFT else "refused" if status < 500 else "failed"
        self._counts.observe(REQUEST_SECONDS, seconds, labels=(outcome, route))

    def flush(self) -> None:
        """Let the other processes' scrapes see what was counted here. Raises OSError where the folder has no room."""
        self._counts.flush()

    def expose(self, live: Callable[[], tuple[str, str] | None]) -> bytes:
        """The text that Prometheus scrapes, summed over every process that shares the folder.

        live: the version that serves here and the precision that it answers in, None before the first.
        What is shown here is told to the others first, so that no scrape of theirs shows less.
        """
        with suppress(OSError):  # a full disk is told of by who flushes in the background
            self.flush()
        scraped = CollectorRegistry(auto_describe=False)
        scraped.register(_Counted(self._counts))
        scraped.register(_LiveVersion(live))
        return generate_latest(scraped)


class _Counted(Collector):
    """Counts, read as a registry reads."""

    def __init__(self, counts: Counts) -> None:
        self._counts = counts

    def collect(self) -> Iterator[Metric]:
        yield from self._counts.metrics()


class _LiveVersion(Collector):
    """The one metric with a version label, made at the scrape so that no old version lingers in it."""

    def __init__(self, live: Callable[[], tuple[str, str] | None]) -> None:
        self._live = live

    def collect(self) -> Iterator[Metric]:
        told, labels = "1 for the version that serves, and its precision", ("version", "precision")
        family = GaugeMetricFamily("appshelf_live_version_info", told, labels=labels)
        if live := self._live():
            family.add_metric(live, 1)
        yield family
