"""How much of the log is kept: by age and by count."""

import logging
from dataclasses import dataclass

from service.settings import DAY_S
from service.store.log_ports import EventLog, LogCounts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """days: impressions and events older than these go; impressions, events: past so many the oldest of each go."""

    days: float
    impressions: int
    events: int


def trim_log(events: EventLog, kept: Kept, *, now: float) -> int:
    """Remove what is not to be kept at `now` (epoch seconds); how many rows went. Raises StoreUnavailable."""
    gone = events.trim(before=now - kept.days * DAY_S, keep=LogCounts(kept.impressions, kept.events))
    if gone:
        log.info("the log was trimmed by %d rows", gone)
    return gone
