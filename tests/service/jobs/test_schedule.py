"""Cron's five fields, in UTC."""

from datetime import UTC, datetime

import pytest

from service.errors import SettingsRefused
from service.jobs.schedule import MADE_UP_S, Schedule
from service.settings import Settings


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("cron", "now", "due"),
    [
        ("0 3 * * *", "2026-11-20T03:00:00", "2026-11-20T03:00:00"),
        ("0 3 * * *", "2026-11-20T03:59:59", "2026-11-20T03:00:00"),
        ("*/15 * * * *", "2026-11-20T03:44:59", "2026-11-20T03:30:00"),
        ("30 1,2 * * 5", "2026-11-20T02:40:00", "2026-11-20T02:30:00"),
        ("0 0 1-7 11 0-6", "2026-11-07T00:10:00", "2026-11-07T00:00:00"),
    ],
)
def test_the_last_time_that_was_due_is_found(cron: str, now: str, due: str) -> None:
    assert Schedule.parse(cron).last_due(at(now)) == at(due)


@pytest.mark.parametrize(
    ("cron", "now"),
    [
        ("0 3 * * *", "2026-11-20T02:59:59"),
        ("0 3 * * *", "2026-11-20T04:00:00"),
        ("0 3 * * 0", "2026-11-20T03:10:00"),
        ("0 3 1 * *", "2026-11-20T03:10:00"),
    ],
)
def test_nothing_was_due_within_the_hour(cron: str, now: str) -> None:
    assert MADE_UP_S == 3600
    assert Schedule.parse(cron).last_due(at(now)) is None


@pytest.mark.parametrize("minute", ["00", "30"])
def test_a_minute_matches_or_does_not(minute: str) -> None:
    moment = datetime.fromisoformat(f"2026-11-20T03:{minute}:00")
    assert Schedule.parse("0 3 * * *").matches(moment) is (minute == "00")


@pytest.mark.parametrize(
    ("cron", "said"),
    [
        ("", "0 fields"),
        ("0 3 * *", "4 fields"),
        ("0 3 * * * *", "6 fields"),
        ("60 3 * * *", "minute"),
        ("0 24 * * *", "hour"),
        ("0 0 0 * *", "day"),
        ("0 0 1 13 *", "month"),
        ("0 0 * * 8", "day_of_week"),
        ("0 0 * * MON", "day_of_week"),
        ("*/0 * * * *", "minute"),
        ("@daily", "1 fields"),
        ("a b c d e", "minute"),
    ],
)
def test_a_text_that_is_no_schedule_is_refused_at_start_naming_the_field(cron: str, said: str) -> None:
    with pytest.raises(SettingsRefused, match=said) as refused:
        Settings.from_env({"APPSHELF_RETRAIN_SCHEDULE": cron})
    assert "0 3 * * *" in str(refused.value)
    assert "APPSHELF_RETRAIN_SCHEDULE" in str(refused.value)
