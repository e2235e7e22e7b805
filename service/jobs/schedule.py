"""When to retrain: cron's five fields in UTC, and the time that was due last."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from huey import crontab  # type: ignore[import-untyped]  # ships no annotations

FIELDS = ("minute", "hour", "day", "month", "day_of_week")
MADE_UP_S = 3600.0
"""A run that no worker was up for is made up by one that starts within this time."""


@dataclass(frozen=True)
class Schedule:
    """The five fields of a cron text; a time is due where all of them match it, day and weekday too."""

    minute: str
    hour: str
    day: str
    month: str
    day_of_week: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `0 3 * * *`: numbers, `*`, `*/n`, `a-b` and lists of them. Raises ValueError, saying what is allowed."""
        fields = text.split()
        if len(fields) != len(FIELDS):
            raise ValueError(
                f"{len(fields)} fields where cron has five: minute hour day month weekday, as in 0 3 * * *"
            )
        schedule = cls(*fields)
        for name, field in zip(FIELDS, fields, strict=True):
            try:
                crontab(**{name: field}, strict=True)
            except ValueError as error:
                raise ValueError(f"the field {name}: {error}; as in 0 3 * * *") from error
        return schedule

    def matches(self, moment: datetime) -> bool:
        """Whether this minute is due; moment: UTC."""
        return bool(crontab(self.minute, self.hour, self.day, self.month, self.day_of_week, strict=True)(moment))

    def last_due(self, now: float) -> float | None:
        """The latest due minute of the last MADE_UP_S before `now` (epoch seconds), None where there was none."""
        minute = datetime.fromtimestamp(now, UTC).replace(second=0, microsecond=0)
        earlier = (minute - timedelta(minutes=back) for back in range(int(MADE_UP_S // 60)))
        return next((moment.timestamp() for moment in earlier if self.matches(moment)), None)
