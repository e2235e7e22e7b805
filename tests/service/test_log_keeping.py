"""How much of the log is kept."""

from pathlib import Path

import pytest

from service.home import Home
from service.labels import JoinRule, join
from service.log_keeping import Kept, trim_log
from service.settings import DAY_S
from service.store.log_ports import EventLog, Feedback, Impression, LogCounts, Shown
from service.store.sqlite_backend import open_sqlite

NOW = 1_700_000_000.0


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    """A log of ten days, an impression and an event each."""
    log = open_sqlite(Home(tmp_path), lambda: NOW).log
    days = [NOW - number * DAY_S for number in range(10)]
    items = (Shown("com.x", 1, 0.5, {}, 0),)
    log.show(Impression(f"r{place}", at, "v", "u", {}, {}, {}, items) for place, at in enumerate(days))
    log.take([Feedback(f"e{place}", "click", at, at, "com.x", "u", f"r{place}", True) for place, at in enumerate(days)])
    return log


def test_what_is_older_than_the_days_kept_goes(log: EventLog) -> None:
    assert trim_log(log, Kept(days=4, impressions=100, events=100), now=NOW) == 10
    assert log.counts() == LogCounts(impressions=5, feedback=5)


def test_past_the_number_kept_the_oldest_impressions_go(log: EventLog) -> None:
    assert trim_log(log, Kept(days=100, impressions=3, events=100), now=NOW) == 7
    assert [one.request_id for one in log.impressions(0, NOW + 1)] == ["r2", "r1", "r0"]
    assert log.counts().feedback == 10


def test_past_the_number_kept_the_oldest_events_go(log: EventLog) -> None:
    trim_log(log, Kept(days=100, impressions=100, events=3), now=NOW)
    assert [one.id for one in log.feedback(0, NOW + 1)] == ["e2", "e1", "e0"]


def test_an_impression_whose_events_went_by_number_goes_with_them_and_is_no_negative(log: EventLog) -> None:
    assert trim_log(log, Kept(days=100, impressions=100, events=3), now=NOW) == 14
    rule = JoinRule(("click",), DAY_S / 2, NOW + DAY_S)
    counts = join(log.impressions(0, NOW + 1), log.feedback(0, NOW + 1), rule=rule).counts
    assert (counts.positives, counts.negatives) == (3, 0)


def test_trimming_again_finds_nothing(log: EventLog) -> None:
    trim_log(log, Kept(days=4, impressions=3, events=100), now=NOW)
    assert trim_log(log, Kept(days=4, impressions=3, events=100), now=NOW) == 0
