"""History as it was known before each row: which apps the user had used and how often, and what all others had done.

A row of the service's own log has it written down as it was scored, and that is taken; for the others it is computed.
Where the log has time, a row knows all strictly earlier events. Where it has none, it knows all of the training
log's events but its own: one event is left out, not one app, so an app the user used at other times stays.
Of other users a row knows how many have the app, and which apps they have together: who asks never counts, so no row
can see its own label there by itself; one user in each row, though, makes the count one less in each positive row.
Under a value of the context everybody counts, but not the row's own event.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from model.data.crowd import in_context, similar
from model.data.dataset import HISTORY, LOGGED, MEASURES, Dataset, has_logged
from model.data.past import AFTER_ALL_US, LONG_AGO_US, Past, is_event, moment, past_of
from model.population import Floats, Mask
from model.schema import FieldSpec, PairStatistic

ROWS_AT_ONCE = 50_000


@dataclass(frozen=True)
class History:
    """What B rows know.

    installed: a list of app ids a row, most used first; uses: (B,) earlier events of the row's user with its app;
    others: (B,) other users known to use its app; measures: (B,) each, what of all users, by
    `FieldSpec.measure`.
    """

    installed: pl.Series
    uses: Floats
    others: Floats
    measures: Mapping[str, Floats] = field(default_factory=dict)

    @property
    def statistics(self) -> dict[str, Floats]:
        """Everything that a pair field may be `of`, by `FieldSpec.measure`."""
        return {PairStatistic.USES: self.uses, PairStatistic.OTHERS: self.others, **self.measures}


def history_of(dataset: Dataset, rows: pl.DataFrame, *, max_values: int, fields: Sequence[FieldSpec] = ()) -> History:
    """The history of each of `rows` (columns of dataset.examples, plus their split), at most `max_values` apps each.

    fields: those of `population_fields` whose measures are asked for.
    """
    known = logged(dataset, rows, max_values=max_values, fields=fields)
    apps = pl.col("history").list.eval(pl.element().struct.field("app_id")).list.head(max_values)
    uses, others = known["uses"].to_numpy() * 1.0, known["others"].to_numpy() * 1.0
    measures = {one: known[one].to_numpy() * 1.0 for one in _names(fields)}
    return History(known.select(apps).to_series(), uses, others, measures)


def logged(
    dataset: Dataset, rows: pl.DataFrame, *, max_values: int | None = None, fields: Sequence[FieldSpec] = ()
) -> pl.DataFrame:
    """The history, uses and others (see LOGGED) of each of `rows`, and a column for each measure of `fields`.

    What stands in the rows is taken, and computed where nothing does. A history that is computed holds at most
    `max_values` apps, None for all.
    """
    if not has_logged(rows):
        return _computed(dataset, rows, max_values, fields)
    absent = [pl.lit(None, LOGGED[name]).alias(name) for name in ("uses", "others") if name not in rows.columns]
    absent += [pl.lit(None, MEASURES).alias("measures")] if rows.schema.get("measures") != MEASURES else []
    if not rows["history"].null_count():
        return _told(dataset, rows.with_columns(absent), fields)
    numbered = rows.with_columns(absent).with_row_index("_row")
    told, untold = numbered.filter(pl.col("history").is_not_null()), numbered.filter(pl.col("history").is_null())
    parts = [_told(dataset, told, fields), _computed(dataset, untold, max_values, fields)]
    number = pl.concat([told["_row"], untold["_row"]])
    return pl.concat(parts).select(pl.all().sort_by(number))


def told_of(field: FieldSpec) -> pl.Expr:
    """The measure of a field as rows of the service's log tell it, null where they do not."""
    named = pl.element().filter(pl.element().struct.field("name") == field.measure).struct.field("value")
    return pl.col("measures").list.eval(named).list.first()


def audience_of(dataset: Dataset) -> dict[str, int]:
    """How many users are known to use each app by the end of the log; of a log without time, of its training split."""
    users = past_of(dataset).audience
    return dict(zip(users["app_id"].to_list(), users["users"].to_list(), strict=True))


def _names(fields: Sequence[FieldSpec]) -> list[str]:
    return [one.measure for one in fields if one.measure]


def _told(dataset: Dataset, rows: pl.DataFrame, fields: Sequence[FieldSpec]) -> pl.DataFrame:
    """Rows with a history of their own; the rest is filled in where the row was not scored with its app."""
    past, told = past_of(dataset), rows.select("history", "uses", "others")
    if told["uses"].null_count():
        told = told.with_columns(pl.col("uses").fill_null(_own_uses(rows)))
    if told["others"].null_count():
        others = _told_others(past, rows, uses=told["uses"].to_numpy())
        told = told.with_columns(pl.col("others").fill_null(pl.Series(others)))
    for one in fields:
        told = told.with_columns(_told_measure(past, rows, one))
    return told


def _told_measure(past: Past, rows: pl.DataFrame, one: FieldSpec) -> pl.Series:
    """(B,) a measure as it was logged, computed for the rows that tell nothing of it."""
    values = rows.select(told_of(one)).to_series().alias(one.measure or "")
    if not values.null_count():
        return values
    if one.by is not None:
        return values.fill_null(pl.Series(in_context(past, rows, one.by)))
    silent = rows.filter(values.is_null())
    found = [similar(past, part, _told_entries(past, part)) for part in silent.iter_slices(ROWS_AT_ONCE)]
    return values.scatter(values.is_null().arg_true(), np.concatenate(found))


def _told_entries(past: Past, rows: pl.DataFrame) -> pl.DataFrame:
    """The same of rows with histories of their own, and each row's own app; first is as `past` counts its user."""
    own = rows.select(own_app="app_id", app_id="app_id", first=past.first_uses(rows)).with_row_index("row")
    entries = _entries(rows).select("row", "own_app", "app_id")
    first = past.first_uses(entries.with_columns(rows["user_id"].gather(entries["row"]))).fill_null(AFTER_ALL_US)
    return pl.concat([entries.with_columns(first=first), own.drop_nulls("first")])


def _entries(rows: pl.DataFrame) -> pl.DataFrame:
    """(row, own_app, app_id, count, first) of every app in the histories that rows have of their own."""
    exploded = rows.select(own_app="app_id", entry="history").with_row_index("row").explode("entry")
    entries = exploded.drop_nulls("entry").unnest("entry")
    return entries.select("row", "own_app", "app_id", "count", first=pl.lit(LONG_AGO_US, pl.Int64))


def _own_uses(rows: pl.DataFrame) -> pl.Series:
    """(B,) how often each row's history says that its app was used."""
    return _scattered(_entries(rows), len(rows))


def _computed(
    dataset: Dataset, rows: pl.DataFrame, max_values: int | None, fields: Sequence[FieldSpec]
) -> pl.DataFrame:
    past = past_of(dataset)
    beside = any(one.of is PairStatistic.SIMILAR for one in fields)
    own = pl.concat([_own(past, piece, max_values, beside=beside) for piece in past.cut(rows)])
    columns = [pl.Series("others", _others(past, rows, uses=own["uses"].to_numpy()))]
    columns += [pl.Series(one.measure, in_context(past, rows, one.by)) for one in fields if one.by is not None]
    return own.with_columns(columns).select("history", "uses", "others", *_names(fields))


def _own(past: Past, rows: pl.DataFrame, max_values: int | None, *, beside: bool) -> pl.DataFrame:
    """history, uses and, where `beside`, the measure of SIMILAR of each of some rows."""
    counts = _known_before(past, rows)
    ordered = counts.sort(["row", "count", "app_id"], descending=[False, True, False])
    entry = pl.struct("app_id", pl.col("count").cast(pl.Int64)).alias("history")
    lists = ordered.group_by("row", maintain_order=True).agg(entry.head(max_values) if max_values else entry)
    every = pl.DataFrame({"row": np.arange(len(rows), dtype=np.uint32)})
    history = every.join(lists, on="row", how="left", maintain_order="left")["history"].cast(HISTORY)
    columns = [history.fill_null(pl.Series([[]], dtype=HISTORY)), _scattered(counts, len(rows)).alias("uses")]
    columns += [pl.Series(PairStatistic.SIMILAR, similar(past, rows, counts))] if beside else []
    return pl.DataFrame(columns)


def _others(past: Past, rows: pl.DataFrame, *, uses: Floats) -> Floats:
    """(B,) how many other users were known to use each row's app."""
    return _audience_before(past, rows) - _is_in_audience(past, rows, uses)


def _told_others(past: Past, rows: pl.DataFrame, *, uses: Floats) -> Floats:
    """(B,) the same of rows with histories of their own, which may tell of an app before its user is counted for it."""
    if not past.timed:
        return _others(past, rows, uses=uses)
    since = past.first_uses(rows).fill_null(AFTER_ALL_US).to_numpy()
    return past.audience_before(rows) - (since < rows.select(moment()).to_series().to_numpy())


def _scattered(counts: pl.DataFrame, length: int) -> pl.Series:
    """(length,) how often each row's own app is in `counts` (row, own_app, app_id, count)."""
    own = counts.filter(pl.col("app_id") == pl.col("own_app"))
    values = np.zeros(length)
    values[own["row"].to_numpy()] = own["count"].to_numpy()
    return pl.Series("uses", values)


def _known_before(past: Past, rows: pl.DataFrame) -> pl.DataFrame:
    """(row, own_app, app_id, count, first) of every app each row's user was known to have used, and since when."""
    numbered = rows.select("user_id", own_app="app_id").with_row_index("row")
    if past.timed:
        asked = numbered.with_columns(asked_at=rows["at"])
        before = pl.col("at").is_null() | (pl.col("at") < pl.col("asked_at"))
        earlier = asked.join(past.events_of(rows["user_id"]), on="user_id").filter(before)
        return earlier.group_by("row", "own_app", "app_id").agg(count=pl.len(), first=moment().min())
    asked = numbered.with_columns(is_event=is_event(rows))
    known = asked.join(past.events_of(rows["user_id"]), on="user_id")
    own = (pl.col("is_event") & (pl.col("app_id") == pl.col("own_app"))).cast(pl.UInt32)
    left = known.with_columns((pl.col("count") - own).alias("count")).filter(pl.col("count") > 0)
    return left.select("row", "own_app", "app_id", "count", first=pl.lit(LONG_AGO_US, pl.Int64))


def _audience_before(past: Past, rows: pl.DataFrame) -> Floats:
    """(B,) users known to use each row's app, the row's own among them."""
    if not past.timed:
        found = rows.select("app_id").join(past.audience, on="app_id", how="left", maintain_order="left")
        return found["users"].fill_null(0).to_numpy() * 1.0
    return past.audience_before(rows)


def _is_in_audience(past: Past, rows: pl.DataFrame, uses: Floats) -> Mask:
    """(B,) whether the row's own user is counted in its app's audience: by earlier use, or by the row's own event."""
    return (uses > 0) if past.timed else (uses > 0) | is_event(rows).to_numpy()
