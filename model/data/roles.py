"""Guess which columns of a log are its user, app, time, split, request and label, by their names and values."""

import re
from collections.abc import Iterable
from typing import Any

from model.data.columns import Column, places, texts
from model.data.labels import labels
from model.data.readers import Table
from model.data.report import ImportRefused
from model.data.splits import NAMES, SPLITS
from model.data.times import times
from model.schema import LogSpec, Negatives

USER = ("user_id", "user", "userid", "uid", "customer_id", "visitor_id", "device_id")
APP = ("app_id", "app", "appid", "package", "item_id", "item", "product_id", "content_id")
AT = ("at", "timestamp", "time", "ts", "datetime", "event_time", "created_at", "date")
REQUEST = ("request_id", "request", "impression_id")
POSITION = ("position", "rank", "slot")
LABEL = ("label", "clicked", "click", "installed", "install", "is_click", "converted", "target")
EVENT = ("kind", "event", "event_type", "type", "action")
POSITIVE = ("install", "purchase", "buy", "download", "click", "open", "launch", "use", "play")
REFUSED = ("skip", "dismiss", "ignore", "hide", "reject", "decline")
MOST_BAD = 0.1


def guess_log(events: Table) -> LogSpec:
    """The log's part of a schema. Raises ImportRefused where no column can be the user's or the app's id."""
    user, app = named(events, USER), named(events, APP)
    if user is None or app is None:
        what = "user" if user is None else "app"
        raise ImportRefused(
            f"no column of {events.file} is known to hold the {what}'s id, among {', '.join(events.frame.columns)}; "
            f"write schema.yaml by hand and name it there, as `log: {{{what}: COLUMN}}`"
        )
    at, split, position = named(events, AT), named(events, ("split",)), named(events, POSITION)
    return LogSpec(
        user=user,
        app=app,
        at=at if at and _is_time(times(events.frame[at])) else None,
        split=split if split and _is_split(texts(events.frame[split])) else None,
        request=named(events, REQUEST),
        position=position if position and _is_position(events, position) else None,
        **_label(events),
    )


def named(table: Table, names: Iterable[str]) -> str | None:
    """The table's column of the first of `names` that it has, letter case and separators aside."""
    found = {re.sub(r"[^a-z0-9]+", "_", name.lower()): name for name in table.frame.columns}
    return next((found[name] for name in names if name in found), None)


def unread(events: Table, log: LogSpec) -> str | None:
    """The column that by its name says what happened, where none of its values is known to be positive."""
    return None if log.label in events.frame.columns else named(events, (*LABEL, *EVENT))


def mostly_good(column: Column) -> bool:
    """Whether few enough values are bad for a column to be what it was judged as."""
    return column.why.count() <= MOST_BAD * len(column.why)


def _label(events: Table) -> dict[str, Any]:
    """The label's column, its positive values, and negatives where the log has none of its own."""
    if name := named(events, LABEL):
        column = labels(events.frame[name], LogSpec())
        if mostly_good(column) and (column.values == 1).any():
            return {"label": name, "negatives": None if (column.values == 0).any() else Negatives()}
    if name := named(events, EVENT):
        kinds = texts(events.frame[name]).values.drop_nulls().unique().sort().to_list()
        for kind in POSITIVE:
            if positive := tuple(value for value in kinds if value.lower().startswith(kind)):
                refused = any(value.lower().startswith(REFUSED) for value in kinds)
                return {"label": name, "positive": positive, "negatives": None if refused else Negatives()}
    if "label" in events.frame.columns:
        raise ImportRefused(f"which values of column 'label' in {events.file} are positive? Write schema.yaml by hand")
    return {"negatives": Negatives()}


def _is_time(column: Column) -> bool:
    good = column.values.drop_nulls()
    return 2 * len(good) > len(column.values) and good.n_unique() >= len(SPLITS)


def _is_position(events: Table, name: str) -> bool:
    column = places(events.frame[name], textual=events.textual)
    return column.why.is_null().all() and column.values.is_not_null().any()


def _is_split(column: Column) -> bool:
    held = set(column.values)
    return held <= set(NAMES) and "train" in held and ("valid" in held or held >= set(SPLITS))
