"""The imported log: labelled examples, apps and users in canonical columns, and the folder it is kept in."""

import hashlib
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter, ValidationError

from model.causes import first_line
from model.data.columns import DTYPES
from model.data.stored import AGAIN, DatasetError, Rows, StoredRows
from model.schema import FeatureSchema, SchemaError, Source, dump_schema, read_schema

__all__ = [
    "HISTORY",
    "LOGGED",
    "MEASURES",
    "Dataset",
    "DatasetError",
    "Facts",
    "has_logged",
    "promised",
    "read",
    "user_histories",
    "write",
]

KEYS = ("user_id", "app_id")
PIECE = 32_768
"""Rows read at once, and rows of a group in the file."""

HISTORY = pl.List(pl.Struct({"app_id": pl.String, "count": pl.Int64}))
MEASURES = pl.List(pl.Struct({"name": pl.String, "value": pl.Float64}))
LOGGED: Mapping[str, pl.DataType] = {
    "history": HISTORY, "uses": pl.Float64(), "others": pl.Float64(), "measures": MEASURES, "app_revision": pl.Int64()
}  # fmt: skip
"""What a row was scored with, where it comes from the service's own log; null where it is to be computed.

history: apps and how often each was used, most used first; uses, others: of the row's app (`PairStatistic`);
measures: what was known of all users with the row's app, by `FieldSpec.measure`;
app_revision: the row of `Dataset.revisions` with the app's features, null where `Dataset.apps` has them.
"""


@dataclass(frozen=True)
class Facts:
    """What the log was; kept in the bundle's manifest."""

    source: str  # where it came from: "parquet: PATH", "frappe", "synthetic"
    timed: bool  # its rows have `at`
    sampling_rate: float  # share of all possible negatives that were kept; 1.0 where the log has its own
    negatives: str  # name of the rule that drew them, "logged" where the log has its own
    window: tuple[str, str] | None  # first and last `at`, ISO 8601 in UTC
    counts: Mapping[str, int]  # rows of each split ("train") and positives among them ("train_positive")
    trained_until: str | None = None  # of the service's own log: the last `at` in training, before what was held out
    known_until: str | None = None  # of the same: the last `at` that the version learned on from had in training


@dataclass(frozen=True)
class Dataset:
    """A log ready to be learned from.

    examples: user_id, app_id, label Int8, split (train, stop or gate), where known at Datetime("us", "UTC"),
    request_id, position Int32 (from 1) and the columns of LOGGED, and every user field (but user_id) and context
    field. apps: app_id, available, countries (empty = everywhere) and every app field (but app_id). users: user_id,
    installed (known before the log began) and every user field (but user_id). revisions: app_id and every app field of
    apps as they were scored, where that differs from apps. Columns are canonical, see `model.data.columns`.

    Examples that were read from a folder stay in their file: `scan` and `pieces` read what they are asked for, and
    `examples` all of it into memory.
    """

    schema: FeatureSchema
    examples: pl.DataFrame
    apps: pl.DataFrame
    users: pl.DataFrame
    facts: Facts
    revisions: pl.DataFrame | None = None

    @property
    def scored_apps(self) -> pl.DataFrame:
        """The apps and after them their revisions: what the rows of examples point into."""
        return self.apps if self.revisions is None else pl.concat([self.apps, self.revisions], how="diagonal")

    def scan(self) -> pl.LazyFrame:
        """The examples, in order, nothing of them read yet."""
        return Rows.of(self).scan()

    def collect(self, rows: pl.LazyFrame) -> pl.DataFrame:
        """What a query over `scan` gives, by streaming. Raises DatasetError where the file is damaged."""
        return Rows.of(self).collect(rows)

    def pieces(self, split: str | None = None) -> Iterator[pl.DataFrame]:
        """The examples of one split, or all, in order, some PIECE rows at a time; one piece at least."""
        seen = 0
        for start in range(0, self.count(), PIECE):
            piece = self.scan().slice(start, PIECE)
            rows = self.collect(piece.filter(pl.col("split") == split) if split else piece)
            seen += len(rows)
            if len(rows):
                yield rows
        if not seen:
            yield self.collect(self.scan().head(0))

    def count(self, split: str | None = None) -> int:
        """How many examples there are of one split, or in all."""
        rows = self.scan().filter(pl.col("split") == split) if split else self.scan()
        return int(self.collect(rows.select(pl.len())).item())

    def fingerprint(self) -> str:
        """A SHA-256 of all that is in it, the same for the same data under the same release of polars."""
        digest = hashlib.sha256(self.schema.fingerprint().encode())
        digest.update(TypeAdapter(Facts).dump_json(self.facts, exclude={"known_until"}))  # which changes no row
        for frame in chain(self.pieces(), [self.apps, self.users], [] if self.revisions is None else [self.revisions]):
            digest.update(str(frame.schema).encode())
            digest.update(frame.hash_rows().to_numpy().tobytes())
        return digest.hexdigest()

    def app_rows(self, rows: pl.DataFrame) -> pl.Series:
        """(B,) Int64: the row of `scored_apps` that each of `rows` of the examples was scored with."""
        places = pl.int_range(len(self.apps), eager=True)
        now = rows["app_id"].replace_strict(self.apps["app_id"], places, return_dtype=pl.Int64)
        if self.revisions is None or not has_logged(rows):
            return now
        revised = rows["app_revision"] + len(self.apps)
        return revised.zip_with(revised.is_not_null(), now)


# set once the dataclass is made, which would take it for a default
Dataset.examples = Rows()  # type: ignore[assignment]  # a descriptor that gives a frame


def promised(schema: FeatureSchema) -> dict[str, dict[str, pl.DataType]]:
    """The columns that every dataset of a schema has, by frame; `examples` may have more, see LOGGED."""
    key, texts = pl.String(), pl.List(pl.String)
    user, context, app = (
        {name: DTYPES[spec.kind] for name, spec in schema.from_source(source).items() if name not in KEYS}
        for source in (Source.USER, Source.CONTEXT, Source.APP)
    )
    return {
        "examples": {"user_id": key, "app_id": key, "label": pl.Int8(), "split": key} | user | context,
        "apps": {"app_id": key, "available": pl.Boolean(), "countries": texts} | app,
        "users": {"user_id": key, "installed": texts} | user,
    }


def write(dataset: Dataset, folder: Path) -> None:
    """Write the dataset's files aside, then rename: whenever this is cut short, `read` finds the old or the new."""
    partial, previous = _beside(folder, "partial"), _beside(folder, "previous")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for name, frame in _frames(dataset).items():
        frame.write_parquet(partial / f"{name}.parquet", row_group_size=PIECE)
    (partial / "schema.yaml").write_text(dump_schema(dataset.schema), encoding="utf-8")
    (partial / "facts.json").write_bytes(TypeAdapter(Facts).dump_json(dataset.facts, indent=2))
    if folder.exists():
        shutil.rmtree(previous, ignore_errors=True)
        folder.rename(previous)
    partial.rename(folder)
    shutil.rmtree(previous, ignore_errors=True)


def read(folder: Path) -> Dataset:
    """Read what `write` wrote. Raises DatasetError where it is missing or damaged."""
    found = folder if folder.exists() else _beside(folder, "previous")
    if not found.exists():
        raise DatasetError(f"{folder} holds no data yet; run `appshelf import FORMAT PATH`")
    try:
        schema = read_schema(found / "schema.yaml")
        facts = TypeAdapter(Facts).validate_json((found / "facts.json").read_bytes())
        apps, users = (pl.read_parquet(found / f"{name}.parquet") for name in ("apps", "users"))
        examples = StoredRows(found / "examples.parquet")
        rows = examples.scan().collect_schema()
        later = found / "revisions.parquet"
        revisions = pl.read_parquet(later) if later.exists() else None
    except (OSError, SchemaError, ValidationError, pl.exceptions.PolarsError) as error:
        first = first_line(error)
        raise DatasetError(f"the data in {found} is damaged ({first}); {AGAIN}") from error
    dataset = Dataset(schema, examples, apps, users, facts, revisions)  # type: ignore[arg-type]  # see Rows
    if lacking := _lacking(dataset, rows):
        raise DatasetError(f"the data in {found} lacks {', '.join(lacking)}; {AGAIN}")
    return dataset


def has_logged(rows: pl.DataFrame | pl.LazyFrame) -> bool:
    """Whether rows have the columns of LOGGED; a field that is only named like one of them is of another type."""
    return rows.lazy().collect_schema().get("history") == HISTORY


def user_histories(dataset: Dataset, users: pl.Series | None = None) -> dict[str, dict[str, int]]:
    """What the store should know of each user, or of these: app id to count, most used first, ties by app id.

    Counted are the positives (of a log without times: of the train split only), and one for each app that the user
    had installed before the log began. Users without either are left out.
    """
    positive = pl.col("label") == 1
    known = positive if dataset.facts.timed else positive & (pl.col("split") == "train")
    events = dataset.scan().filter(known).select("user_id", "app_id")
    installed = dataset.users.lazy().select("user_id", app_id="installed").explode("app_id").drop_nulls()
    every = pl.concat([events, installed])
    asked = every if users is None else every.filter(pl.col("user_id").is_in(users.unique().implode()))
    counts = dataset.collect(asked.group_by("user_id", "app_id").len("count"))
    ordered = counts.sort(["user_id", "count", "app_id"], descending=[False, True, False])
    lists = ordered.group_by("user_id", maintain_order=True).agg("app_id", "count")
    return {user: dict(zip(apps, uses, strict=True)) for user, apps, uses in lists.iter_rows()}


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _lacking(dataset: Dataset, rows: pl.Schema) -> list[str]:
    """The promised columns that a frame does not hold in their type, and `revisions` where a row points past them.

    rows: the schema of the examples.
    """
    columns = promised(dataset.schema)
    columns["revisions"] = {
        name: dtype for name, dtype in columns["apps"].items() if name not in ("available", "countries")
    }
    frames = {"examples": rows, "apps": dataset.apps.schema, "users": dataset.users.schema}
    if dataset.revisions is not None:
        frames["revisions"] = dataset.revisions.schema
    lacking = [
        f"{name}.{column} ({dtype})"
        for name, frame in frames.items()
        for column, dtype in columns[name].items()
        if frame.get(column) != dtype
    ]
    held = 0 if dataset.revisions is None else len(dataset.revisions)
    asked = None
    if rows.get("history") == HISTORY:
        asked = dataset.collect(dataset.scan().select(pl.max("app_revision"))).item()
    return lacking + (["revisions"] if isinstance(asked, int) and asked >= held else [])


def _frames(dataset: Dataset) -> dict[str, pl.DataFrame]:
    """The frames that there are, by the name of their file."""
    frames = {"examples": dataset.examples, "apps": dataset.apps, "users": dataset.users}
    return frames if dataset.revisions is None else frames | {"revisions": dataset.revisions}
