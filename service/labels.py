"""What was shown joined with what came back: which of the shown apps are positive, which negative, which neither yet.

Only impressions whose window has closed are labelled. One that is still open is left out whole: to take the positives
that it has already, and not its negatives, would make everything shown lately look better than it is.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from model.data.labels import TRUE
from model.schema import LogSpec
from service.store.log_ports import INSTALL, Feedback, Impression

CLOCK_SKEW_S = 5.0
"""How far before its impression an event may be dated, since a client's clock is not the server's."""

SHOWN = pl.Schema(
    {"request_id": pl.String, "user_id": pl.String, "at": pl.Float64, "app_id": pl.String, "position": pl.Int32}
)
EVENTS = pl.Schema(
    {
        "id": pl.String,
        "kind": pl.String,
        "at": pl.Float64,
        "request_id": pl.String,
        "app_id": pl.String,
        "user_id": pl.String,
    }
)


@dataclass(frozen=True)
class JoinRule:
    """positive: kinds of event that make a shown app a positive, within window_s seconds of its impression.

    now: the moment, in epoch seconds, at which a window has closed or has not; since: what was shown before is not
    known, so that an event up to window_s after it may belong to something that is not among the impressions.
    """

    positive: tuple[str, ...]
    window_s: float
    now: float
    since: float = float("-inf")


@dataclass(frozen=True)
class JoinCounts:
    """Shown apps as positives, negatives and open (no label yet), and the events that made no label, by reason.

    waiting: for an impression that is open; late: after the window; early: before the impression; orphan: of an unknown
    request, an app that was not shown or another user; outside: perhaps of an impression before the first; duplicate:
    an event id seen before, or a further positive of the same request and app; other_kinds: not a positive kind.
    """

    positives: int = 0
    negatives: int = 0
    open: int = 0
    waiting: int = 0
    late: int = 0
    early: int = 0
    orphan: int = 0
    outside: int = 0
    duplicate: int = 0
    other_kinds: int = 0


@dataclass(frozen=True)
class Joined:
    """examples: the rows of SHOWN whose window has closed, in order, each with its label Int8; and the counts."""

    examples: pl.DataFrame
    counts: JoinCounts


def positive_kinds(log: LogSpec) -> tuple[str, ...]:
    """The kinds of event that a schema's log calls positive; install where it calls 1 and true so, which are none."""
    return tuple(kind for kind in log.positive if kind.lower() not in TRUE) or (INSTALL,)


def join(impressions: Iterable[Impression], feedback: Iterable[Feedback], *, rule: JoinRule) -> Joined:
    """Label everything that was shown, by request id and app."""
    return join_frames(shown_frame(impressions), event_frame(feedback), rule=rule)


def shown_frame(impressions: Iterable[Impression]) -> pl.DataFrame:
    """What the impressions showed, a row an app, with the columns of SHOWN."""
    rows = [
        (one.request_id, one.user_id, one.at, item.app_id, item.position) for one in impressions for item in one.items
    ]
    return pl.DataFrame(rows, schema=SHOWN, orient="row")


def event_frame(feedback: Iterable[Feedback]) -> pl.DataFrame:
    """The events, with the columns of EVENTS."""
    rows = [(one.id, one.kind, one.at, one.request_id, one.app_id, one.user_id) for one in feedback]
    return pl.DataFrame(rows, schema=EVENTS, orient="row")


def join_frames(shown: pl.DataFrame, events: pl.DataFrame, *, rule: JoinRule) -> Joined:
    """As `join`, from frames; further columns of `shown` are kept in the examples."""
    once = shown.unique(["request_id", "app_id"], keep="first", maintain_order=True).with_row_index("_row")
    judged = _judged(once, events, rule)
    positive = judged.filter(pl.col("fate") == "positive").select("_row", label=pl.lit(1, pl.Int8))
    closed = once.filter(_closed("at", rule))
    labelled = closed.join(positive, on="_row", how="left", maintain_order="left").drop("_row")
    examples = labelled.with_columns(pl.col("label").fill_null(0))
    fates = dict(judged["fate"].value_counts().iter_rows())
    positives = fates.pop("positive", 0)
    opened = len(once) - len(closed)
    return Joined(examples, JoinCounts(positives, len(closed) - positives, opened, **fates))


def _judged(shown: pl.DataFrame, events: pl.DataFrame, rule: JoinRule) -> pl.DataFrame:
    """The _row that each event names and its fate: "positive", or a name of JoinCounts."""
    of_shown = shown.select("request_id", "app_id", "_row", shown_at="at", shown_to="user_id")
    ordered = events.sort("at", "id", maintain_order=True)
    named = ordered.join(of_shown, on=["request_id", "app_id"], how="left", maintain_order="left")
    judged = named.select("_row", _fate(rule).alias("fate"))
    further = ~pl.struct("_row", "fate").is_first_distinct() & (pl.col("fate") == "positive")
    return judged.with_columns(fate=pl.when(further).then(pl.lit("duplicate")).otherwise("fate"))


def _fate(rule: JoinRule) -> pl.Expr:
    """What becomes of an event, but for a second positive of the same row. The first reason that holds counts."""
    positive = pl.col("kind").str.to_lowercase().is_in([kind.lower() for kind in rule.positive])
    stranger = pl.col("shown_at").is_null() | (pl.col("user_id") != pl.col("shown_to")).fill_null(False)
    before_all = pl.col("shown_at").is_null() & (pl.col("at") <= rule.since + rule.window_s)
    return (
        pl.when(~pl.col("id").is_first_distinct())
        .then(pl.lit("duplicate"))
        .when(~positive)
        .then(pl.lit("other_kinds"))
        .when(before_all)
        .then(pl.lit("outside"))
        .when(stranger)
        .then(pl.lit("orphan"))
        .when(~_closed("shown_at", rule))
        .then(pl.lit("waiting"))
        .when(pl.col("at") < pl.col("shown_at") - CLOCK_SKEW_S)
        .then(pl.lit("early"))
        .when(pl.col("at") > pl.col("shown_at") + rule.window_s)
        .then(pl.lit("late"))
        .otherwise(pl.lit("positive"))
    )


def _closed(at: str, rule: JoinRule) -> pl.Expr:
    return pl.col(at) + rule.window_s < rule.now
