"""What a log tells of all its users, gathered once, however many pieces its rows are encoded in."""

from collections.abc import Iterator
from datetime import UTC, datetime
from functools import cached_property
from itertools import pairwise

import numpy as np
import polars as pl

from model.data.contexts import UsesBy
from model.data.dataset import Dataset, has_logged
from model.data.together import Together, counted
from model.population import Floats, Ints

LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)
ROWS_AT_ONCE = 50_000
EVENTS_AT_ONCE = 1 << 21
LONG_AGO_US = -62_135_596_800_000_000
AFTER_ALL = datetime(9999, 1, 1, tzinfo=UTC)
AFTER_ALL_US = 253_370_764_800_000_000
WINDOWS = 24
"""Moments of a log with times at which SIMILAR is brought up to date, as many events between two."""


class Past:
    """The events of one dataset, and what is counted of them.

    Of a log with times all events count, each for those who come later. Of one without, those of its training split.
    at_once: earlier events of the users of some rows that are looked at together.
    """

    at_once = EVENTS_AT_ONCE

    def __init__(self, dataset: Dataset) -> None:
        self._dataset = dataset
        self.timed = dataset.facts.timed
        self._by: dict[str, UsesBy] = {}

    @cached_property
    def events(self) -> pl.DataFrame:
        """Who used what: user_id, app_id, and `at` of each event, or without times the `count` of events.

        What users had already is there too, see `had`.
        """
        columns = ["user_id", "app_id"] + (["at"] if self.timed else [])
        positives = self._dataset.collect(self._positives().select(columns))
        if self.timed:
            return pl.concat([positives, self.had().cast({"at": positives.schema["at"]})])
        return pl.concat([positives, self.had()]).group_by(columns).len("count")

    def had(self) -> pl.DataFrame:
        """user_id, app_id of what users had, and of a log with times since when (`at`), null for before it began.

        The service's own log comes with what its users have now. Its rows tell what they had then: from the first of a
        user's rows that tells of an app it counts, from before the log where that is the user's first row at all, and
        after all rows where none tells of it. A user without a row had all of it before.
        """
        users = self._dataset.users
        installed = users.select("user_id", app_id="installed").explode("app_id").drop_nulls()
        if not self.timed:
            return installed
        if not has_logged(self._dataset.scan()):
            return installed.with_columns(at=pl.lit(None, pl.Datetime("us", "UTC")))
        known = installed.join(self._began, on="user_id", how="left", maintain_order="left")
        known = known.join(self._told, on=["user_id", "app_id"], how="left", maintain_order="left")
        before = pl.col("began").is_null() | (pl.col("at") == pl.col("began"))
        at = pl.when(before).then(None).otherwise(pl.col("at").fill_null(AFTER_ALL)).alias("at")
        return known.select("user_id", "app_id", at)

    @cached_property
    def audience(self) -> pl.DataFrame:
        """app_id and how many `users` are known to use it in the end, in order of the app's id."""
        return self.events.select("user_id", "app_id").unique().group_by("app_id").len("users").sort("app_id")

    @cached_property
    def audience_grown(self) -> pl.DataFrame:
        """Of a log with times: app_id, and how many `users` are known to use it from `at` on."""
        first = self.events.group_by("user_id", "app_id").agg(pl.col("at").fill_null(LONG_AGO).min()).sort("at")
        return first.select("app_id", "at", users=pl.int_range(1, pl.len() + 1).over("app_id"))

    def events_of(self, users: pl.Series) -> pl.DataFrame:
        """The events of these users, and maybe of others."""
        return self.events

    def audience_before(self, rows: pl.DataFrame) -> Floats:
        """(B,) users known to use each row's app before the row's time, for rows with app_id and at."""
        asked, grown = rows.select("app_id", "at").with_row_index("row").sort("at"), self.audience_grown
        found = asked.join_asof(grown, on="at", by="app_id", allow_exact_matches=False, check_sortedness=False)
        return found.sort("row")["users"].fill_null(0).to_numpy() * 1.0

    def cut(self, rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
        """The rows some at a time, one piece at least, whose users have not too many events together."""
        events = self.event_counts(rows["user_id"]).cumsum()
        begins = [0, *np.flatnonzero(np.diff(events // self.at_once) > 0) + 1, len(rows)]
        for begin, end in pairwise(begins):
            piece = rows[int(begin) : int(end)]
            yield from piece.iter_slices(ROWS_AT_ONCE) if len(piece) else [piece]

    def event_counts(self, users: pl.Series) -> Ints:
        """(B,) how many of the events are each user's."""
        found = users.to_frame().join(self._per_user, on="user_id", how="left", maintain_order="left")
        return found["events"].fill_null(0).cast(pl.Int64).to_numpy()

    @cached_property
    def _per_user(self) -> pl.DataFrame:
        """user_id and how many events there are."""
        return self.events.group_by("user_id").len("events")

    def uses_by(self, name: str) -> UsesBy:
        """The events by the value of a field."""
        if name not in self._by:
            rows = self._positives()
            value = pl.col(name) if name in rows.collect_schema() else pl.lit(None, pl.String)
            at = [moment()] if self.timed else []
            events = self._dataset.collect(rows.select("user_id", "app_id", *at, value=value))
            self._by[name] = UsesBy.of(events, timed=self.timed)
        return self._by[name]

    @cached_property
    def apps(self) -> tuple[str, ...]:
        """The apps that anybody is known to use; an app's place is its ordinal."""
        return tuple(self.audience["app_id"].to_list())

    @cached_property
    def ordinals(self) -> pl.DataFrame:
        """app_id and its ordinal (app)."""
        return self.audience.select("app_id", app=pl.int_range(pl.len()))

    @cached_property
    def counted(self) -> pl.DataFrame:
        """user_id of those whose apps count for `together`."""
        numbered = self._numbered
        users = counted(self._first)["user"].unique()
        return numbered.join(users.to_frame(), on="user").select("user_id")

    @cached_property
    def together(self) -> Together:
        """Which apps users have together."""
        first, bounds = counted(self._first), np.empty(0, dtype=np.int64)
        if self.timed:
            shares = np.arange(1, WINDOWS) / WINDOWS
            times = self.events.select(moment()).to_series().to_numpy()
            timed = times[(times > LONG_AGO_US) & (times < AFTER_ALL_US)]
            later = [*np.quantile(timed, shares, method="nearest"), timed.max() + 1] if len(timed) else []
            bounds = np.unique(np.array([LONG_AGO_US + 1, *later], dtype=np.int64))
        return Together.of(first, bounds, apps=len(self.apps))

    def first_uses(self, rows: pl.DataFrame) -> pl.Series:
        """(B,) Int64: when each row's user is first known to use its app, null for never."""
        asked = rows.select("user_id", "app_id").join(self._numbered, on="user_id", how="left", maintain_order="left")
        asked = asked.join(self.ordinals, on="app_id", how="left", maintain_order="left")
        return asked.join(self._first, on=["user", "app"], how="left", maintain_order="left")["at"]

    def windows(self, rows: pl.DataFrame) -> Ints:
        """(B,) the window of `together` that each of some rows knows."""
        if not self.timed:
            return np.full(len(rows), self.together.last)
        return self.together.windows(rows.select(moment()).to_series().to_numpy())

    @cached_property
    def _began(self) -> pl.DataFrame:
        """user_id and the time of the first row that tells what its user had (began)."""
        return self._dataset.collect(self._telling().group_by("user_id").agg(began=pl.min("at")))

    @cached_property
    def _told(self) -> pl.DataFrame:
        """user_id, app_id of what users have, and the time of the first row that tells of it (at)."""
        installed = self._dataset.users.lazy().select("user_id", app_id="installed").explode("app_id")
        told = self._telling().unique(["user_id", "at"]).explode("history")
        named = told.select("user_id", "at", app_id=pl.col("history").struct.field("app_id"))
        of_now = named.join(installed, on=["user_id", "app_id"], how="semi")
        return self._dataset.collect(of_now.group_by("user_id", "app_id").agg(pl.min("at")))

    def _telling(self) -> pl.LazyFrame:
        """user_id, at and history of the rows that were scored by the service."""
        return self._dataset.scan().filter(pl.col("history").is_not_null()).select("user_id", "at", "history")

    @cached_property
    def _numbered(self) -> pl.DataFrame:
        """user_id and a number for each (user)."""
        return self.events.select(pl.col("user_id").unique().sort()).with_columns(user=pl.int_range(pl.len()))

    @cached_property
    def _first(self) -> pl.DataFrame:
        """user, app (its ordinal) and when the user is first known to use it (at)."""
        at = moment().min() if self.timed else pl.lit(LONG_AGO_US, pl.Int64).alias("at")
        first = self.events.group_by("user_id", "app_id").agg(at)
        return first.join(self._numbered, on="user_id").join(self.ordinals, on="app_id").select("user", "app", "at")

    @property
    def until(self) -> int | None:
        """When the last event was, microseconds since 1970; None where the log tells no times."""
        at = pl.col("at").filter(pl.col("at") < AFTER_ALL)
        times = self.events.select(at.dt.epoch("us").max()).item() if self.timed else None
        return None if times is None else int(times)

    def _positives(self) -> pl.LazyFrame:
        rows = self._dataset.scan().filter(pl.col("label") == 1)
        return rows if self.timed else rows.filter(pl.col("split") == "train")


def past_of(dataset: Dataset) -> Past:
    """The past of a dataset, the same whenever it is asked for."""
    kept: Past = vars(dataset).setdefault("past", Past(dataset))
    return kept


def is_event(rows: pl.DataFrame) -> pl.Series:
    """(B,) which rows are events of a log without times."""
    return (rows["label"] == 1) & (rows["split"] == "train")


def moment() -> pl.Expr:
    """`at` in microseconds since 1970, what is at no time long before all else."""
    return pl.col("at").dt.epoch("us").fill_null(LONG_AGO_US)
