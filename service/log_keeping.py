"""How much of the log is kept: by age and by count."""

import logging
import math
from dataclasses import dataclass

from service.settings import DAY_S
from service.store.log_ports import EventLog, LogCounts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Kept:
    """days: impressions and events older than these go; impressions, events: past so many the oldest of each go.

    With the oldest events go the impressions of their time, see `trim_log`.
    """

    days: float
    impressions: int
    events: int


def trim_log(events: EventLog, kept: Kept, *, now: float) -> int:
    """Remove what is not to be kept at `now` (epoch seconds); how many rows went. Raises StoreUnavailable.

    Where events went by number, what was shown before the oldest that is left goes with them: a part of what came of
    it is not known any more, and what was installed would be learned as a negative.
    """
    before, keep = now - kept.days * DAY_S, LogCounts(kept.impressions, kept.events)
    many = events.counts().feedback > kept.events
    gone = events.trim(before=before, keep=keep)
    if many and (oldest := next(iter(events.feedback(before, math.inf)), None)):
        gone += events.trim(before=oldest.at, keep=keep)
    if gone:
        log.info("the log was trimmed by %d rows", gone)
    return gone
