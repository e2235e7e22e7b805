"""Import of Frappe (Baltrunas et al. 2015): the Frappe_x1 split joined with the app metadata, as a store's log."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from model.causes import first_line
from model.data.dataset import Dataset
from model.data.negatives import Pool, rate
from model.data.prepare import ImportOptions, prepare
from model.data.readers import Format, RawLog, Table, file_bytes, read_table
from model.data.report import ImportRefused, ImportReport
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, LogSpec, NegativeRule, PairStatistic, Source

CONTEXT = ("daytime", "weekday", "isweekend", "homework", "weather", "country", "city")
METADATA = ("category", "downloads", "developer", "language")
UNKNOWN = "unknown"
QUANTILES = 20


def load(path: Path, *, options: ImportOptions | None = None) -> tuple[Dataset, ImportReport]:
    """Import PATH, the folder that holds `frappe/` and `frappe_x1/`.

    The rebuilt train part feeds examples, history and statistics; valid is halved into stop and gate. The test part
    and the raw usage log, which contains it, are not opened. An app's cost is its own, never a row's (the rows of
    negatives carry their positive's). Raises ImportRefused where a file is missing or damaged.
    """
    try:
        log = _raw_log(path)
    except pl.exceptions.PolarsError as error:
        raise ImportRefused(f"{path} does not hold Frappe as expected: {first_line(error)}") from error
    dataset, report = prepare(log, schema(), options=options)
    positives = dataset.examples.filter(pl.col("label") == 1)
    train = positives.filter(pl.col("split") == "train")
    pool = Pool(dataset.apps["app_id"], positives.select("user_id", "app_id"))
    kept = dataset.facts.counts["train"] - dataset.facts.counts["train_positive"]
    share = rate(kept, train, pool, rule=NegativeRule.UNUSED)
    facts = replace(dataset.facts, sampling_rate=share, negatives=str(NegativeRule.UNUSED))
    return replace(dataset, facts=facts), report


def schema(*, history: bool = True) -> FeatureSchema:
    """The home's schema: the seven contexts, the apps' own features, history, and their crosses with the candidate.

    history: with what all users did with the candidate, too.
    """
    crossed, counted = ("user_id", *CONTEXT), history_fields(CONTEXT)
    return FeatureSchema(
        fields=(
            _field("user_id", Source.USER),
            *(_field(name, Source.CONTEXT) for name in CONTEXT),
            FieldSpec(name="installed", source=Source.HISTORY, kind=Kind.MULTI, max_values=200),
            *(_field(name, Source.APP) for name in ("app_id", *METADATA, "cost")),
            FieldSpec(name="rating", source=Source.APP, kind=Kind.CONTINUOUS),
            *(counted if history else counted[:2]),
        ),
        crosses=(
            *(CrossSpec(fields=("installed", name), bits=20) for name in ("app_id", "category", "developer")),
            *(CrossSpec(fields=("user_id", name), bits=20) for name in ("category", "developer")),
            *(CrossSpec(fields=(name, "app_id")) for name in crossed),
        ),
        log=LogSpec(user="user", split="split"),
    )


def history_fields(contexts: Sequence[str]) -> tuple[FieldSpec, ...]:
    """Own uses, popularity, popularity under the value of each of `contexts`, and nearness to the user's other apps.

    Few quantiles: finer ones tell a count from the same count without the row's own event, which an encoder that
    leaves it out only for positives gives away to a net that knows the app (see `docs/decisions.md`).
    """
    return (
        _number("own_uses", PairStatistic.USES),
        _number("other_users", PairStatistic.OTHERS),
        *(_number(f"users_by_{name}", PairStatistic.IN_CONTEXT, by=name) for name in contexts),
        _number("similar_apps", PairStatistic.SIMILAR),
    )


def app_ids(path: Path) -> pl.DataFrame:
    """item (as text) and app_id of every app: its package name, or `frappe-<item>` where it has no metadata."""
    return _named(path / "frappe" / "meta.csv.gz").select("item", "app_id")


def _field(name: str, source: Source) -> FieldSpec:
    return FieldSpec(name=name, source=source, kind=Kind.CATEGORICAL)


def _number(name: str, of: PairStatistic, *, by: str | None = None) -> FieldSpec:
    return FieldSpec(name=name, source=Source.PAIR, kind=Kind.CONTINUOUS, of=of, by=by, quantiles=QUANTILES)


def _raw_log(path: Path) -> RawLog:
    rows = pl.concat([_rows(path, "train_rebuilt", "train"), _rows(path, "valid", "valid")])
    apps = _apps(path / "frappe" / "meta.csv.gz", rows.filter(pl.col("split") == "train", pl.col("label") == 1))
    events = rows.join(apps.select("item", "app_id"), on="item", how="left", maintain_order="left")
    features = apps.drop("item")
    absent = {name: features[name].is_null() for name in features.columns}
    return RawLog(
        source="frappe",
        events=Table.of("frappe_x1", events.drop("item", "cost")),
        apps=replace(Table.of("frappe/meta.csv.gz", features), absent=absent),
    )


def _rows(path: Path, name: str, split: str) -> pl.DataFrame:
    frame = read_table(path / "frappe_x1" / f"{name}.parquet", Format.PARQUET).frame
    texts = pl.col("user", "item", "cost", *CONTEXT).cast(pl.String)
    return frame.select("label", texts, pl.lit(split).alias("split"))


def _apps(path: Path, positives: pl.DataFrame) -> pl.DataFrame:
    """item, app_id and the features of every app, null where unknown; cost as its positives show, else by price."""
    meta = _named(path)
    shown = positives.group_by("item").agg(pl.col("cost").first())
    price = pl.when(pl.col("price") == "Free").then(pl.lit("free")).otherwise(pl.lit("paid"))
    priced = pl.when(pl.col("price") != UNKNOWN).then(price)
    return meta.join(shown, on="item", how="left", maintain_order="left").select(
        "item",
        "app_id",
        *(pl.col(name).replace(UNKNOWN, None) for name in METADATA),
        pl.coalesce("cost", priced).alias("cost"),
        pl.col("rating").cast(pl.Float64, strict=False),
    )


def _named(path: Path) -> pl.DataFrame:
    """The metadata as it stands, all text, with each app's id."""
    meta = pl.read_csv(file_bytes(path), separator="\t", infer_schema=False)
    named = pl.when(pl.col("package") != UNKNOWN).then("package").otherwise(pl.format("frappe-{}", "item"))
    return meta.with_columns(named.alias("app_id"))
