"""From a raw log and a schema to a dataset and a report: check, label, split, draw negatives, in that order."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import polars as pl

from model.data.check import TableCheck, check_apps, check_events, check_users
from model.data.dataset import LOGGED, Dataset, Facts, promised
from model.data.negatives import Pool, sample
from model.data.readers import RawLog
from model.data.report import FaultLog, FileReport, ImportRefused, ImportReport
from model.data.splits import SPLITS, Shares, at_random, by_column, by_time, row_keys, split_counts
from model.query import NULL
from model.schema import FeatureSchema, Negatives, Source

RESERVED = {
    Source.USER: ("app_id", "label", "split", "at", "request_id", "position", "installed", "row", *LOGGED),
    Source.CONTEXT: ("user_id", "app_id", "label", "split", "at", "request_id", "position", "row", *LOGGED),
    Source.APP: ("user_id", "available", "countries", "row"),
}


@dataclass(frozen=True)
class ImportOptions:
    """seed: draws negatives; shares: of a log without splits of its own; fault_limit: the faults a report keeps."""

    seed: int = 0
    shares: Shares = field(default_factory=Shares)
    fault_limit: int = 100


def prepare(
    log: RawLog, schema: FeatureSchema, *, options: ImportOptions | None = None
) -> tuple[Dataset, ImportReport]:
    """Make a dataset of a log's good rows. Raises ImportRefused, with the numbers, where none can be made."""
    options = options or ImportOptions()
    _check_names(schema)
    faults = FaultLog(options.fault_limit)
    listed_users, user_files = _users(log, schema, faults)
    listed_apps, app_files = _apps(log, schema, faults)
    check = TableCheck(log.events, faults)
    if log.events.rows.is_empty():
        raise _none_good(log.events.file, len(log.events.malformed), faults)
    good = check_events(check, schema, listed_users.drop("installed"))
    files = (check.report(good), *app_files, *user_files)
    labelled = _labelled(good, schema, file=files[0], faults=faults)
    apps = _with_apps_of(labelled, listed_apps)
    users = _with_users_of(labelled, listed_users)
    split = labelled.with_columns(_splits(labelled, options.shares).alias("split"))
    rule = schema.log.negatives
    drawn = _with_negatives(split, _pool(split, apps, users), rule=rule, seed=options.seed) if rule else (split, 1.0)
    examples, rate = drawn
    facts = _facts(examples, schema, source=log.source, rate=rate)
    dataset = Dataset(schema, _ordered(examples, schema), apps, users, facts)
    report = ImportReport(
        files=files,
        faults=tuple(faults.kept),
        counts=dict(faults.counts),
        other_events=good.height - labelled.height,
        added_apps=apps.height - listed_apps.height,
        negatives=examples.height - labelled.height,
    )
    return dataset, report


def _check_names(schema: FeatureSchema) -> None:
    for source, reserved in RESERVED.items():
        if taken := sorted(set(schema.from_source(source)) & set(reserved)):
            raise ImportRefused(f"a {source} field cannot be named {', '.join(taken)}; rename it in schema.yaml")


def _users(log: RawLog, schema: FeatureSchema, faults: FaultLog) -> tuple[pl.DataFrame, Sequence[FileReport]]:
    empty = pl.DataFrame(schema=promised(schema)["users"])
    if log.users is None:
        return empty, ()
    users, report = check_users(TableCheck(log.users, faults), schema)
    named = pl.element().filter(~pl.element().is_in([NULL, ""])).unique(maintain_order=True)
    installed = pl.col("installed").fill_null([]).list.eval(named)
    return pl.concat([empty, users], how="diagonal").with_columns(installed), (report,)


def _apps(log: RawLog, schema: FeatureSchema, faults: FaultLog) -> tuple[pl.DataFrame, Sequence[FileReport]]:
    empty = pl.DataFrame(schema=promised(schema)["apps"])
    if log.apps is None:
        return empty, ()
    apps, report = check_apps(TableCheck(log.apps, faults), schema)
    return pl.concat([empty, apps], how="diagonal").with_columns(pl.col("countries").fill_null([])), (report,)


def _labelled(good: pl.DataFrame, schema: FeatureSchema, *, file: FileReport, faults: FaultLog) -> pl.DataFrame:
    """The rows that are positive or negative; refused where learning from them is out of the question."""
    if good.is_empty():
        raise _none_good(file.file, file.read, faults)
    labelled = good.drop_nulls("label")
    positives = int((labelled["label"] == 1).sum())
    rule = f"`{schema.log.label}` in {', '.join(schema.log.positive)}"
    if not positives:
        raise ImportRefused(f"none of the {good.height} good rows of {file.file} is positive by the rule {rule}")
    if positives == good.height and schema.log.negatives is None:
        raise ImportRefused(
            f"all {positives} good rows of {file.file} are positive by the rule {rule}; to have negatives drawn, "
            "add `negatives: {rule: unused, per_positive: 4}` to the schema's `log`"
        )
    return labelled


def _none_good(file: str, read: int, faults: FaultLog) -> ImportRefused:
    return ImportRefused(f"none of the {read} rows of {file} is good" + (f": {faults.summary()}" if read else ""))


def _with_apps_of(labelled: pl.DataFrame, apps: pl.DataFrame) -> pl.DataFrame:
    """The listed apps and, with missing features, those that occur in the log only."""
    new = labelled.select(pl.col("app_id").unique().sort()).join(apps, on="app_id", how="anti", maintain_order="left")
    added = new.with_columns(pl.lit(True).alias("available"), pl.lit([], pl.List(pl.String)).alias("countries"))
    return pl.concat([apps, added], how="diagonal")


def _with_users_of(labelled: pl.DataFrame, users: pl.DataFrame) -> pl.DataFrame:
    """The listed users and those of the log, whose features are the last that the log gives."""
    fields = [name for name in users.columns if name not in ("user_id", "installed")]
    ordered = labelled.sort("at", maintain_order=True) if "at" in labelled.columns else labelled
    last = [pl.col(name).drop_nulls().last().alias(f"{name}_of_log") for name in fields]
    seen = ordered.group_by("user_id").agg(last)
    both = users.join(seen, on="user_id", how="full", coalesce=True).sort("user_id")
    filled = [pl.coalesce(name, f"{name}_of_log").alias(name) for name in fields]
    return both.with_columns(pl.col("installed").fill_null([]), *filled).select(users.columns)


def _splits(labelled: pl.DataFrame, shares: Shares) -> pl.Series:
    """The split of each row: the log's own, else by time, else at random; the rows of a request stay together."""
    if "at" in labelled.columns and "split" not in labelled.columns:
        return by_time(labelled["at"], shares)
    if "request_id" in labelled.columns:
        keys = row_keys(labelled["request_id"], pl.zeros(labelled.height, pl.Int64, eager=True))
    else:
        keys = row_keys(labelled["user_id"], labelled["row"])
    if "split" in labelled.columns:
        return _all_present(by_column(labelled["split"], keys))
    return _all_present(at_random(keys, shares))


def _all_present(split: pl.Series) -> pl.Series:
    counts = {name: int((split == name).sum()) for name in SPLITS}
    if 0 in counts.values():
        seen = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise ImportRefused(
            f"each split needs rows; there are: {seen}; a split column may say train, valid, stop, gate"
        )
    return split


def _pool(labelled: pl.DataFrame, apps: pl.DataFrame, users: pl.DataFrame) -> Pool:
    """The catalogue, and what each user has used: by the log, and before it began."""
    installed = users.select("user_id", app_id="installed").explode("app_id").drop_nulls()
    return Pool(apps["app_id"], pl.concat([labelled.select("user_id", "app_id"), installed]))


def _with_negatives(positives: pl.DataFrame, pool: Pool, *, rule: Negatives, seed: int) -> tuple[pl.DataFrame, float]:
    """The examples, each positive followed by its negatives, and the sampling rate."""
    negatives, rate = sample(positives, pool, negatives=rule, seed=seed)
    if negatives.is_empty():
        raise ImportRefused(f"no negatives can be drawn: each user has used all of the {len(pool.apps)} apps")
    return pl.concat([positives, negatives]).sort("row", maintain_order=True), rate


def _ordered(examples: pl.DataFrame, schema: FeatureSchema) -> pl.DataFrame:
    optional = [name for name in ("at", "request_id", "position") if name in examples.columns]
    names = [*promised(schema)["examples"]]
    return examples.select(*names[:4], *optional, *names[4:])


def _facts(examples: pl.DataFrame, schema: FeatureSchema, *, source: str, rate: float) -> Facts:
    timed = "at" in examples.columns
    at = examples["at"].sort() if timed else None
    return Facts(
        source=source,
        timed=timed,
        sampling_rate=rate,
        negatives=str(schema.log.negatives.rule) if schema.log.negatives else "logged",
        window=None if at is None else (at[0].isoformat(), at[-1].isoformat()),
        counts=split_counts(examples),
    )
