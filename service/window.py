"""A window of the log as a dataset to learn from: what is new, with old rows among it, each as it was scored."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import polars as pl

from model.data.dataset import LOGGED, Dataset, DatasetError, Facts, promised
from model.data.prepare import RESERVED
from model.data.splits import SPLITS, Shares, by_time, split_counts
from model.schema import FeatureSchema
from service.labels import CLOCK_SKEW_S, JoinCounts, JoinRule, event_frame, join_frames, positive_kinds, shown_frame
from service.logged import TIME, Reader, framed, is_after, with_times
from service.replaying import Wanted, from_import, from_log
from service.settings import DAY_S
from service.store.log_ports import EventLog
from service.store.ports import FeatureStore

LOG = "log"
REPLAYED_AT_MOST = 10**9
MOMENT_S = 1e-5
SHARES = {"incremental": Shares(train=0.7, stop=0.15), "full": Shares(train=0.9, stop=0.05)}
"""What is new is little, and enough of it must judge; of a whole window a small part does, and the rest is learned."""


class WindowRefused(DatasetError):
    """The log's window holds nothing that can be learned from; the message has the numbers and the next step."""


@dataclass(frozen=True)
class Learned:
    """How far a version knows the service's log, in epoch seconds: trained on up to one time, judged up to another.

    What lies between was held out to stop and to judge it; nothing was learned from that yet.
    """

    trained: float
    judged: float


@dataclass(frozen=True)
class WindowPlan:
    """What is to be learned from.

    schema: live's; now: epoch seconds; since: what live learned of the log, None for nothing; window_s: seconds after
    an impression in which an event counts; days: how far the log is read back; replay: old rows in training for each
    new one there (incremental mode alone); shares: of the new rows, by time, None for those of SHARES; learned: rows
    that live was trained on; seen: up to when live, or the version that is learned on, was trained on the log, in epoch
    seconds, so that neither is stopped or judged on what it has learned; seed: draws the old rows.
    """

    schema: FeatureSchema
    now: float
    window_s: float
    mode: Literal["incremental", "full"] = "incremental"
    since: Learned | None = None
    days: float = 30.0
    replay: float = 1.0
    shares: Shares | None = None
    learned: int | None = None
    seen: float | None = None
    seed: int = 0

    @property
    def begins(self) -> float:
        """The start of the window, in epoch seconds; not before 1970, however many days are asked for."""
        return max(0.0, self.now - self.days * DAY_S)

    @property
    def new_since(self) -> float:
        """What was shown after this is new, in epoch seconds: what was held out from live's training with it."""
        return self.begins if self.mode == "full" or self.since is None else max(self.begins, self.since.trained)

    def rule(self, since: float) -> JoinRule:
        """How what was shown from `since` on is labelled."""
        return JoinRule(positive_kinds(self.schema.log), self.window_s, self.now, since)


def learned_until(facts: Mapping[str, Any]) -> Learned | None:
    """How far a version with these facts in its manifest knows the service's own log.

    None where it learned from something else, an import say: all of the log is new to it. Where no epoch was better
    than the start, that was kept, and the version knows what the one before it did.
    """
    window = facts.get("window") if facts.get("source") == LOG else None
    if window is None:
        return None
    first, judged = (datetime.fromisoformat(at).timestamp() for at in window)
    if facts.get("training", {}).get("best_epoch") == 0:
        before = facts.get("known_until")
        return Learned(datetime.fromisoformat(before).timestamp() if before else first - MOMENT_S, judged)
    return Learned(datetime.fromisoformat(facts.get("trained_until") or window[1]).timestamp(), judged)


def examples_of(
    log: EventLog, features: FeatureStore, plan: WindowPlan, *, data: Path | None = None
) -> tuple[Dataset, JoinCounts]:
    """The window as a dataset, and what became of its impressions and events.

    data: the folder of the imported dataset, whose rows are learned again where the log has too few old ones. Raises
    WindowRefused where there is nothing to learn from, DatasetError and StoreUnavailable.
    """
    _check_names(plan.schema)
    reader = Reader(plan.schema, features.apps_since(0).put)
    users = reader.users(features.users())
    shown, counts = _shown(log, reader, plan)
    _check(shown, counts, plan)
    new = shown.with_columns(_splits(shown["at"], plan).alias("split"))
    wanted = _wanted(new, plan)
    logged = from_log(log, reader, wanted)
    imported = from_import(data, reader, replace(wanted, rows=wanted.rows - len(logged)), users=users["user_id"])
    parts = {"new": new, "replayed": logged, "replayed_imported": imported}
    examples = pl.concat([_canonical(part, plan.schema) for part in parts.values()])
    _check_splits(examples)
    sizes = {name: len(part) for name, part in parts.items()} | {"misfits": reader.canon.misfits.total()}
    return _dataset(examples, _facts(examples, new, sizes, since=plan.since), reader=reader, users=users), counts


def notes(facts: Facts, plan: WindowPlan) -> tuple[str, ...]:
    """What a person should know of a window that was read under this plan, a sentence each."""
    said, old = [], facts.counts["replayed"] + facts.counts["replayed_imported"]
    if plan.learned is not None and facts.counts["new"] < plan.learned:
        said.append(
            f"the window holds {facts.counts['new']} new rows, fewer than the {plan.learned} of live's training"
        )
    if plan.since is not None and plan.since.trained < plan.begins:
        said.append(
            f"live learned up to {_iso(plan.since.trained)}, and the window of {plan.days:g} days begins after that"
        )
    if plan.mode == "incremental" and old < plan.replay * (facts.counts["train"] - old) - 1:
        said.append(f"{old} old rows are learned again, fewer than {plan.replay:g} for each new one; there are no more")
    if facts.counts["misfits"]:
        said.append(f"{facts.counts['misfits']} logged or stored values did not fit the schema and count as missing")
    return tuple(said)


def _shown(log: EventLog, reader: Reader, plan: WindowPlan) -> tuple[pl.DataFrame, JoinCounts]:
    """Every new row with a label, oldest first, and what became of the rest."""
    first, last = plan.new_since, plan.now
    closing = max(first, last - plan.window_s + 1.0)  # past this all are open, and only their ids are looked at
    fresh = (one for one in log.impressions(first, closing) if is_after(one.at, first))
    pages = [reader.page(()), *framed(fresh, reader.page)]
    still_open = framed(log.impressions(closing, last), shown_frame)
    events = [event_frame(()), *framed(log.feedback(first - CLOCK_SKEW_S, last + CLOCK_SKEW_S), event_frame)]
    shown = pl.concat([*(page.shown for page in pages), *still_open], how="diagonal")
    joined = join_frames(shown, pl.concat(events), rule=plan.rule(first))
    requests = pl.concat([page.requests for page in pages])
    return with_times(joined.examples).join(requests, on="request_id", how="left", maintain_order="left"), joined.counts


def _splits(at: pl.Series, plan: WindowPlan) -> pl.Series:
    """(n,) the split of each new row by its time; what live or the parent has learned already is trained on alone.

    Where the held-out part would reach back into that, what is newer is held out, half to stop and half to judge.
    """
    splits = by_time(at, plan.shares or SHARES[plan.mode])
    unseen = at.dt.epoch("us") > round((plan.seen or 0.0) * 1e6)
    if not ((splits != "train") & ~unseen).any():
        return splits
    times = at.filter(unseen).unique().sort()
    if times.is_empty():
        raise WindowRefused(
            f"live, or the version to learn on, has learned all of the window, up to {_iso(plan.seen or 0.0)}, and "
            "nothing is left to judge on; retrain when more has been shown"
        )
    later = pl.when(at <= times[max(len(times) // 2 - 1, 0)]).then(pl.lit("stop")).otherwise(pl.lit("gate"))
    return pl.select(pl.when(~unseen).then(pl.lit("train")).otherwise(later)).to_series()


def _wanted(new: pl.DataFrame, plan: WindowPlan) -> Wanted:
    """The old rows to go with the new ones in training: none where the whole window is new."""
    trained = int((new["split"] == "train").sum()) if plan.mode == "incremental" else 0
    rows = round(min(plan.replay * trained, REPLAYED_AT_MOST))
    return Wanted(rows, plan.new_since, plan.rule(plan.begins), plan.seed)


def _canonical(rows: pl.DataFrame, schema: FeatureSchema) -> pl.DataFrame:
    """Rows with every column of a window's examples, null where they have none, and for training where not split."""
    first, rest = list(promised(schema)["examples"].items())[:4], list(promised(schema)["examples"].items())[4:]
    optional = {"at": TIME, "request_id": pl.String(), "position": pl.Int32()} | dict(LOGGED)
    columns = dict(first) | optional | dict(rest)
    return rows.select(
        (pl.col(name) if name in rows.columns else pl.lit("train" if name == "split" else None)).cast(dtype).alias(name)
        for name, dtype in columns.items()
    )


def _dataset(examples: pl.DataFrame, facts: Facts, *, reader: Reader, users: pl.DataFrame) -> Dataset:
    """The catalogue and the users of now, and after them those that only the examples know."""
    nothing = pl.lit([], dtype=pl.List(pl.String)).alias("installed")
    known = examples.select(*(nothing if name == "installed" else pl.col(name) for name in users.columns), "at")
    strangers = known.join(users, on="user_id", how="anti").sort("at", maintain_order=True).drop("at")
    gone = strangers.unique("user_id", keep="last", maintain_order=True)
    apps = pl.concat([reader.apps, reader.revisions.gone().select(reader.apps.columns)])
    revisions = reader.revisions.frame() if len(reader.revisions) else None
    return Dataset(reader.schema, examples, apps, pl.concat([users, gone]), facts, revisions)


def _facts(examples: pl.DataFrame, new: pl.DataFrame, sizes: Mapping[str, int], *, since: Learned | None) -> Facts:
    """What the examples are; the first and the last of the new rows are the data's window."""
    at, trained = new["at"].sort(), new["at"].filter(new["split"] == "train").sort()
    return Facts(
        source=LOG,
        timed=True,
        sampling_rate=1.0,
        negatives="logged",
        window=(at[0].isoformat(), at[-1].isoformat()),
        counts={**sizes, **split_counts(examples)},
        trained_until=trained[-1].isoformat(),
        known_until=_time(since.trained).isoformat() if since else None,
    )


def _check_names(schema: FeatureSchema) -> None:
    for source, reserved in RESERVED.items():
        if taken := sorted(set(schema.from_source(source)) & set(reserved)):
            raise WindowRefused(
                f"live's schema has a {source} field {taken[0]!r}, a name that the log's own columns have; "
                "rename it in schema.yaml, import and train again"
            )


def _check(shown: pl.DataFrame, counts: JoinCounts, plan: WindowPlan) -> None:
    """Raise WindowRefused where the new rows cannot be learned from, however they are split."""
    waiting = f"{counts.open} shown apps are still within their window of {plan.window_s:g} s"
    newest = shown["at"].max() if len(shown) else None
    if plan.since is not None and (newest is None or _is_known(newest, plan)):
        raise WindowRefused(
            f"nothing is new since live, whose data ends at {_iso(plan.since.judged)}: no impression after that has a "
            f"window that has closed, and {waiting}; retrain when there are some"
        )
    if newest is None:
        raise WindowRefused(
            f"the log has no impression of the last {plan.days:g} days whose window has closed, and {waiting}; "
            "rank requests and retrain later, or train on an import"
        )
    if not (counts.positives and counts.negatives):
        raise WindowRefused(
            f"the window has {counts.positives} positives and {counts.negatives} negatives, and both are needed; "
            f"events that made no label: {_unlabelled(counts)}; send events by request_id, or widen the window"
        )
    if (distinct := shown["at"].n_unique()) < len(SPLITS):
        raise WindowRefused(
            f"the window has {len(shown)} rows of {distinct} distinct times, and a split by time takes at least "
            f"{len(SPLITS)}; retrain when more has been shown"
        )


def _is_known(newest: object, plan: WindowPlan) -> bool:
    """Whether live was judged on all there is; to learn a whole window again, other than before, it need not be new."""
    if plan.since is None or not isinstance(newest, datetime):
        return False
    end = _time(plan.since.judged)
    return newest < end if plan.mode == "full" else newest <= end


def _check_splits(examples: pl.DataFrame) -> None:
    """Raise WindowRefused unless each split has rows of both classes."""
    found = {name: _labels(examples, name) for name in SPLITS}
    if any(labels.n_unique() < 2 for labels in found.values()):
        seen = ", ".join(f"{name} {len(labels)} ({int(labels.sum())} positive)" for name, labels in found.items())
        raise WindowRefused(
            f"the window is too small to split by time, since each part needs positives and negatives: {seen}; "
            "retrain when more has been shown"
        )


def _labels(examples: pl.DataFrame, split: str) -> pl.Series:
    return examples["label"].filter(examples["split"] == split)


def _unlabelled(counts: JoinCounts) -> str:
    reasons = {name: count for name, count in asdict(counts).items() if name not in ("positives", "negatives", "open")}
    return ", ".join(f"{count} {name}" for name, count in reasons.items() if count) or "none"


def _iso(at: float) -> str:
    return _time(at).isoformat(timespec="seconds")


def _time(at: float) -> datetime:
    return datetime.fromtimestamp(at, UTC)
