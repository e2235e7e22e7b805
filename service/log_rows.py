"""Impressions and events as rows of a table, and back."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import msgspec
import polars as pl

from model.query import Value
from service.store.log_ports import Feedback, Impression, Shown

Row = dict[str, Any]
T = TypeVar("T")

MOMENT = pl.Datetime("us", "UTC")
COUNTED = pl.Struct({"app_id": pl.String, "count": pl.Int64})
BEFORE_MEASURES = {
    "app_id": pl.String, "position": pl.Int64, "score": pl.Float64, "features": pl.String, "others": pl.Int64
}  # fmt: skip
"""What exports of releases without measures have of each app."""

JSON = ("features", "measures")
ITEM = pl.Struct(BEFORE_MEASURES | {"measures": pl.String})
IMPRESSIONS = pl.Schema(
    {
        "request_id": pl.String(),
        "at": MOMENT,
        "version": pl.String(),
        "user_id": pl.String(),
        "user": pl.String(),
        "context": pl.String(),
        "history": pl.List(COUNTED),
        "items": pl.List(ITEM),
    }
)
"""The columns of impressions; features and measures are JSON, since each store has its own."""

FEEDBACK = pl.Schema(
    {
        "id": pl.String(),
        "kind": pl.String(),
        "at": MOMENT,
        "received_at": MOMENT,
        "app_id": pl.String(),
        "user_id": pl.String(),
        "request_id": pl.String(),
        "dated": pl.Boolean(),
    }
)


def impressions_frame(impressions: Sequence[Impression]) -> pl.DataFrame:
    """One row an impression, in the columns of IMPRESSIONS; times are kept to the microsecond."""
    return _frame([_impression_row(one) for one in impressions], IMPRESSIONS)


def feedback_frame(feedback: Sequence[Feedback]) -> pl.DataFrame:
    """One row an event, in the columns of FEEDBACK; times are kept to the microsecond."""
    timed = ("at", "received_at")
    return _frame(
        [asdict(one) | {name: _microseconds(getattr(one, name)) for name in timed} for one in feedback], FEEDBACK
    )


def impressions_of(frame: pl.DataFrame) -> list[Impression]:
    """The impressions of such rows.

    Raises pl.exceptions.PolarsError, msgspec.MsgspecError, ValueError, KeyError, TypeError.
    """
    if frame.schema == {**IMPRESSIONS, "items": pl.List(pl.Struct(BEFORE_MEASURES))}:
        measures = pl.element().struct.with_fields(measures=pl.lit("{}"))
        frame = frame.with_columns(pl.col("items").list.eval(measures))
    return [_whole(_impression(row), Impression) for row in _rows(frame, IMPRESSIONS)]


def feedback_of(frame: pl.DataFrame) -> list[Feedback]:
    """The events of such rows. Raises as `impressions_of`."""
    timed = ("at", "received_at")
    events = (Feedback(**row | {name: row[name] / 1e6 for name in timed}) for row in _rows(frame, FEEDBACK))
    return [_whole(event, Feedback) for event in events]


def _frame(rows: list[Row], schema: pl.Schema) -> pl.DataFrame:
    whole = {name: pl.Int64 if kind == MOMENT else kind for name, kind in schema.items()}
    return pl.DataFrame(rows, schema=whole).cast(schema)


def _rows(frame: pl.DataFrame, schema: pl.Schema) -> list[Row]:
    if frame.schema != schema:
        raise ValueError(f"its columns are {', '.join(frame.columns)}")
    moments = [name for name, kind in schema.items() if kind == MOMENT]
    return frame.cast({name: pl.Int64 for name in moments}).to_dicts()


def _impression_row(one: Impression) -> Row:
    return {
        "request_id": one.request_id,
        "at": _microseconds(one.at),
        "version": one.version,
        "user_id": one.user_id,
        "user": _json(one.user),
        "context": _json(one.context),
        "history": [{"app_id": app_id, "count": count} for app_id, count in one.history.items()],
        "items": [_item_row(item) for item in one.items],
    }


def _item_row(item: Shown) -> Row:
    row = msgspec.structs.asdict(item)
    return row | {name: _json(row[name]) for name in JSON}


def _impression(row: Row) -> Impression:
    return Impression(
        request_id=row["request_id"],
        at=row["at"] / 1e6,
        version=row["version"],
        user_id=row["user_id"],
        user=_values(row["user"]),
        context=_values(row["context"]),
        history={entry["app_id"]: entry["count"] for entry in row["history"]},
        items=tuple(Shown(**item | {name: _values(item[name]) for name in JSON}) for item in row["items"]),
    )


def _whole(one: T, kind: type[T]) -> T:
    """The same, as every store can read it back: a null or a NaN where there must be a value is refused here."""
    return msgspec.json.decode(msgspec.json.encode(one), type=kind)


def _microseconds(at: float) -> int:
    return round(at * 1e6)


def _json(values: Mapping[str, Value]) -> str:
    return msgspec.json.encode(values).decode()


def _values(text: str) -> dict[str, Value]:
    return msgspec.json.decode(text, type=dict[str, Any])
