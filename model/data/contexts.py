"""Which users used which app under which value of a field: what IN_CONTEXT is computed from."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import polars as pl

from model.population import MISSING, Contexts, Floats

KEY = ["app_id", "value"]


@dataclass(frozen=True)
class UsesBy:
    """The events of a log by one field's value, each user's under a value once.

    timed: by user_id, app_id and value the first event's `at`, microseconds; untimed: how many `events` there are.
    """

    uses: pl.DataFrame
    timed: bool

    @classmethod
    def of(cls, events: pl.DataFrame, *, timed: bool) -> "UsesBy":
        """events: a row each, with user_id, app_id, value, and where timed, `at`."""
        by_user = events.with_columns(pl.col("value").fill_null(MISSING)).group_by("user_id", *KEY)
        return cls(by_user.agg(pl.min("at")) if timed else by_user.agg(events=pl.len()), timed)

    def known(self, rows: pl.DataFrame) -> Floats:
        """(B,) distinct users known to use each row's app under its value.

        rows: user_id, app_id, value, and where timed `at`, else is_event. With time those count who did strictly
        earlier; without, all do, but a user whose only event there is the row's own.
        """
        asked = rows.with_columns(pl.col("value").fill_null(MISSING)).with_row_index("row")
        if self.timed:
            found = asked.sort("at").join_asof(
                self._growing, on="at", by=KEY, allow_exact_matches=False, check_sortedness=False
            )
            return _floats(found.sort("row")["users"])
        users = asked.join(self.users, on=KEY, how="left", maintain_order="left")["users"]
        own = asked.join(self.uses, on=["user_id", *KEY], how="left", maintain_order="left")["events"]
        alone = rows["is_event"].to_numpy() & (own.fill_null(0).to_numpy() == 1)
        known: Floats = _floats(users) - alone
        return known

    @cached_property
    def users(self) -> pl.DataFrame:
        """app_id, value, and how many `users` there are in the end."""
        return self.uses.group_by(KEY).agg(users=pl.len().cast(pl.Int64))

    @cached_property
    def _growing(self) -> pl.DataFrame:
        """app_id, value, and how many `users` there are from `at` on."""
        return self.uses.sort("at").select("at", *KEY, users=pl.int_range(1, pl.len() + 1).over(KEY))


def table_of(users: pl.DataFrame, apps: pl.DataFrame) -> Contexts:
    """What is served of app_id, value, users; apps: app_id and its ordinal (app)."""
    known = users.join(apps, on="app_id").sort("value", "app")
    values = known["value"].unique(maintain_order=True)
    starts = known["value"].search_sorted(values) if len(values) else pl.Series([], dtype=pl.UInt32)
    bounds = np.append(starts.to_numpy(), len(known)).astype(np.int64)
    of_app: dict[str, Any] = {name: known[name].cast(pl.Int32).to_numpy(writable=True) for name in ("app", "users")}
    return Contexts(tuple(values.to_list()), bounds, of_app["app"], of_app["users"])


def users_in(table: Contexts, apps: tuple[str, ...]) -> pl.DataFrame:
    """A served table as app_id, value and users again."""
    lengths = np.diff(table.starts)
    value = pl.Series("value", table.values, dtype=pl.String)[np.arange(len(lengths)).repeat(lengths)]
    app_id = pl.Series("app_id", apps, dtype=pl.String)[table.apps.astype(np.int64)]
    return pl.DataFrame([app_id, value, pl.Series("users", table.counts, dtype=pl.Int64)])


def _floats(users: pl.Series) -> Floats:
    return users.fill_null(0).cast(pl.Float64).to_numpy()
