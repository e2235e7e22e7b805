"""History as it was known before each row: which apps the user had used, and how often.

A row of the service's own log has it written down as it was scored, and that is taken; for the others it is computed.
Where the log has time, a row knows all strictly earlier events. Where it has none, it knows all of the training
log's events but its own: one event is left out, not one app, so an app the user used at other times stays.
Of other users a row knows how many have the app: who asks never counts, so no row can see its own label there.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import numpy.typing as npt
import polars as pl

from model.data.dataset import HISTORY, LOGGED, Dataset, has_logged

ROWS_AT_ONCE = 50_000
LONG_AGO = datetime(1, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class History:
    """What B rows know.

    installed: a list of app ids a row, most used first; uses: (B,) earlier events of the row's user with its app;
    others: (B,) other users known to use its app.
    """

    installed: pl.Series
    uses: npt.NDArray[np.float64]
    others: npt.NDArray[np.float64]


def history_of(dataset: Dataset, rows: pl.DataFrame, *, max_values: int) -> History:
    """The history of each of `rows` (columns of dataset.examples, plus their split), at most `max_values` apps each."""
    known = logged(dataset, rows, max_values=max_values)
    apps = pl.col("history").list.eval(pl.element().struct.field("app_id")).list.head(max_values)
    return History(known.select(apps).to_series(), known["uses"].to_numpy() * 1.0, known["others"].to_numpy() * 1.0)


def logged(dataset: Dataset, rows: pl.DataFrame, *, max_values: int | None = None) -> pl.DataFrame:
    """The history, uses and others (see LOGGED) of each of `rows`: what stands in them, computed where nothing does.

    A history that is computed holds at most `max_values` apps, None for all.
    """
    if not has_logged(rows):
        return _computed(dataset, rows, max_values)
    absent = [pl.lit(None, LOGGED[name]).alias(name) for name in ("uses", "others") if name not in rows.columns]
    if not rows["history"].null_count():
        return _told(dataset, rows.with_columns(absent))
    numbered = rows.with_columns(absent).with_row_index("_row")
    told, untold = numbered.filter(pl.col("history").is_not_null()), numbered.filter(pl.col("history").is_null())
    parts = [_told(dataset, told), _computed(dataset, untold, max_values)]
    number = pl.concat([told["_row"], untold["_row"]])
    return pl.concat(parts).select(pl.all().sort_by(number))


def audience_of(dataset: Dataset) -> dict[str, int]:
    """How many users are known to use each app by the end of the log; of a log without time, of its training split."""
    users = _events(dataset).select("user_id", "app_id").unique().group_by("app_id").len("users").sort("app_id")
    return dict(zip(users["app_id"].to_list(), users["users"].to_list(), strict=True))


def _told(dataset: Dataset, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows with a history of their own; uses and others are filled in where the row was not scored with its app."""
    told = rows.select("history", "uses", "others")
    if told["uses"].null_count():
        told = told.with_columns(pl.col("uses").fill_null(_own_uses(rows)))
    if not told["others"].null_count():
        return told
    others = _others(dataset.facts.timed, rows, _events(dataset), uses=told["uses"].to_numpy())
    return told.with_columns(pl.col("others").fill_null(pl.Series(others)))


def _own_uses(rows: pl.DataFrame) -> pl.Series:
    """(B,) how often each row's history says that its app was used."""
    used = rows.select(own_app="app_id", entry="history").with_row_index("row").explode("entry")
    own = used.filter(pl.col("entry").struct.field("app_id") == pl.col("own_app"))
    return _scattered(own.select("row", count=pl.col("entry").struct.field("count")), len(rows))


def _computed(dataset: Dataset, rows: pl.DataFrame, max_values: int | None) -> pl.DataFrame:
    events = _events(dataset)
    counts = pl.concat([_known_before(part, events, dataset.facts.timed) for part in _cut(rows)])
    own = counts.filter(pl.col("app_id") == pl.col("own_app")).select("row", "count")
    uses = _scattered(own, len(rows))
    others = _others(dataset.facts.timed, rows, events, uses=uses.to_numpy())
    ordered = counts.sort(["row", "count", "app_id"], descending=[False, True, False])
    entry = pl.struct("app_id", pl.col("count").cast(pl.Int64)).alias("history")
    lists = ordered.group_by("row", maintain_order=True).agg(entry.head(max_values) if max_values else entry)
    every = pl.DataFrame({"row": np.arange(len(rows), dtype=np.uint32)})
    history = every.join(lists, on="row", how="left", maintain_order="left")["history"].cast(HISTORY)
    nothing = pl.Series([[]], dtype=HISTORY)
    return pl.DataFrame({"history": history.fill_null(nothing), "uses": uses, "others": others})


def _others(
    timed: bool, rows: pl.DataFrame, events: pl.DataFrame, *, uses: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """(B,) how many other users were known to use each row's app."""
    return _audience_before(rows, events, timed) - _is_in_audience(rows, uses, timed)


def _scattered(counts: pl.DataFrame, length: int) -> pl.Series:
    """(length,) the count of each row in `counts` (row, count), else 0."""
    values = np.zeros(length)
    values[counts["row"].to_numpy()] = counts["count"].to_numpy()
    return pl.Series(values)


def _events(dataset: Dataset) -> pl.DataFrame:
    """Positive events by user, those before the log began at the beginning of time."""
    positives = dataset.examples.filter(pl.col("label") == 1)
    if not dataset.facts.timed:
        positives = positives.filter(pl.col("split") == "train")
    columns = ["user_id", "app_id"] + (["at"] if dataset.facts.timed else [])
    before = dataset.users.select("user_id", pl.col("installed").alias("app_id")).explode("app_id").drop_nulls()
    if dataset.facts.timed:
        before = before.with_columns(pl.lit(None, dtype=dataset.examples.schema["at"]).alias("at"))
        return pl.concat([positives.select(columns), before])
    return pl.concat([positives.select(columns), before]).group_by(columns).len("count")


def _cut(rows: pl.DataFrame) -> Iterator[pl.DataFrame]:
    asked = [name for name in ("user_id", "label", "split", "at") if name in rows.columns]
    numbered = rows.select(*asked, own_app="app_id").with_row_index("row")
    for start in range(0, max(len(rows), 1), ROWS_AT_ONCE):
        yield numbered.slice(start, ROWS_AT_ONCE)


def _known_before(rows: pl.DataFrame, events: pl.DataFrame, timed: bool) -> pl.DataFrame:
    """(row, own_app, app_id, count) of every app each row's user was known to have used."""
    if timed:
        asked = rows.select("row", "own_app", "user_id", pl.col("at").alias("asked_at"))
        earlier = asked.join(events, on="user_id").filter(pl.col("at").is_null() | (pl.col("at") < pl.col("asked_at")))
        return earlier.group_by("row", "own_app", "app_id").len("count")
    is_event = (pl.col("label") == 1) & (pl.col("split") == "train")
    asked = rows.select("row", "own_app", "user_id", is_event.alias("is_event"))
    known = asked.join(events, on="user_id")
    own = (pl.col("is_event") & (pl.col("app_id") == pl.col("own_app"))).cast(pl.UInt32)
    left = known.with_columns((pl.col("count") - own).alias("count")).filter(pl.col("count") > 0)
    return left.select("row", "own_app", "app_id", "count")


def _audience_before(rows: pl.DataFrame, events: pl.DataFrame, timed: bool) -> npt.NDArray[np.float64]:
    """(B,) users known to use each row's app, the row's own among them."""
    if not timed:
        users = events.group_by("app_id").len("users")
        return (
            rows.select("app_id")
            .join(users, on="app_id", how="left", maintain_order="left")["users"]
            .fill_null(0)
            .to_numpy()
            * 1.0
        )
    first = events.group_by("user_id", "app_id").agg(pl.col("at").fill_null(LONG_AGO).min()).sort("at")
    grown = first.select("app_id", "at", users=pl.int_range(1, pl.len() + 1).over("app_id"))
    asked = rows.select("app_id", "at").with_row_index("row").sort("at")
    found = asked.join_asof(grown, on="at", by="app_id", allow_exact_matches=False, check_sortedness=False)
    return found.sort("row")["users"].fill_null(0).to_numpy() * 1.0


def _is_in_audience(rows: pl.DataFrame, uses: npt.NDArray[np.float64], timed: bool) -> npt.NDArray[np.bool_]:
    """(B,) whether the row's own user is counted in its app's audience: by earlier use, or by the row's own event."""
    is_event = ((rows["label"] == 1) & (rows["split"] == "train")).to_numpy()
    return (uses > 0) if timed else (uses > 0) | is_event
