"""The tables that measures of all users are served from: counted in a log, and carried on from one log to the next.

A window of the service's own log is not all that was ever known: the users in it have their histories, of which it is
not known under which values they came about. So there the counts by value are carried on: those of the version before,
and with them the users whose first use of an app came after its last. Who used the app before may be counted already
and is not counted again, so that learning from the same events twice changes nothing.
"""

import polars as pl

from model.data.contexts import KEY, table_of, users_in
from model.data.dataset import MEASURES, Dataset, has_logged
from model.data.history import logged, told_of
from model.data.past import Past, past_of
from model.population import MISSING, NOBODY, Contexts, Population, population_fields
from model.schema import FeatureSchema, FieldSpec, PairStatistic


def population_of(schema: FeatureSchema, dataset: Dataset, *, before: Population = NOBODY) -> Population:
    """The tables of the schema's fields, as of the end of the log. before: those of the version that is learned on."""
    fields, past = population_fields(schema), past_of(dataset)
    if not fields:
        return NOBODY
    window = has_logged(dataset.scan())
    contexts = {
        one.by: _carried(dataset, one, before) if window else table_of(past.uses_by(one.by).users, past.ordinals)
        for one in fields
        if one.by is not None
    }
    beside = any(one.of is PairStatistic.SIMILAR for one in fields)
    return Population(past.apps, contexts, past.together.neighbours() if beside else None, _until(past, before, window))


def _carried(dataset: Dataset, field: FieldSpec, before: Population) -> Contexts:
    """The users by app and value of one field: those before and new ones, or more where a row was scored with more.

    Rows that were scored tell what the tables of their version held. Where there is no version before, as in training
    from scratch, that is all that is known of the time before the window.
    """
    by, past = field.by or "", past_of(dataset)
    known = before.contexts.get(by)
    counts = past.uses_by(by).users if known is None else _new(dataset, by, since=before.until)
    if known is not None:
        counts = pl.concat([counts, users_in(known, before.apps)]).group_by(KEY).agg(pl.sum("users"))
    told = _told(dataset, field).join(counts.select(*KEY, counted="users"), on=KEY, how="full", coalesce=True)
    most = told.select(*KEY, users=pl.max_horizontal("users", "counted"))
    return table_of(most.filter(pl.col("users") > 0), past.ordinals)


def _new(dataset: Dataset, by: str, *, since: int | None) -> pl.DataFrame:
    """app_id, value and how many users first used the app after `since`, and did so under the value."""
    at = pl.col("at").dt.epoch("us")
    later = at.is_not_null() if since is None else at > since
    events = dataset.collect(dataset.scan().filter((pl.col("label") == 1) & later))
    first = events.filter(logged(dataset, events)["uses"] == 0)
    value = pl.col(by).fill_null(MISSING)
    return first.select("user_id", "app_id", value=value).unique().group_by(KEY).agg(users=pl.len().cast(pl.Int64))


def _told(dataset: Dataset, field: FieldSpec) -> pl.DataFrame:
    """app_id, value and the most `users` that a row says it was scored with."""
    told = told_of(field) if dataset.scan().collect_schema().get("measures") == MEASURES else pl.lit(None, pl.Float64)
    rows = dataset.scan().select("app_id", value=pl.col(field.by or "").fill_null(MISSING), users=told)
    return dataset.collect(rows.group_by(KEY).agg(pl.max("users").fill_null(0).cast(pl.Int64)))


def _until(past: Past, before: Population, window: bool) -> int | None:
    """The last event that the tables know."""
    known = [one for one in (past.until, before.until if window else None) if one is not None]
    return max(known, default=None)
