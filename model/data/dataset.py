"""The imported log: labelled examples, apps and users in canonical columns, and the folder it is kept in."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import polars as pl
from pydantic import TypeAdapter, ValidationError

from model.data.columns import DTYPES
from model.schema import FeatureSchema, SchemaError, Source, dump_schema, read_schema

KEYS = ("user_id", "app_id")


class DatasetError(ValueError):
    """A dataset folder cannot be read; the message names the file and the next step."""


@dataclass(frozen=True)
class Facts:
    """What the log was; kept in the bundle's manifest."""

    source: str  # where it came from: "parquet: PATH", "frappe", "synthetic"
    timed: bool  # its rows have `at`
    sampling_rate: float  # share of all possible negatives that were kept; 1.0 where the log has its own
    negatives: str  # name of the rule that drew them, "logged" where the log has its own
    window: tuple[str, str] | None  # first and last `at`, ISO 8601 in UTC
    counts: Mapping[str, int]  # rows of each split ("train") and positives among them ("train_positive")


@dataclass(frozen=True)
class Dataset:
    """A log ready to be learned from.

    examples: user_id, app_id, label Int8, split (train, stop or gate), where known at Datetime("us", "UTC"),
    request_id and position Int32, and every user field (but user_id) and context field. apps: app_id, available,
    countries (empty = everywhere) and every app field (but app_id). users: user_id, installed (known before the log
    began) and every user field (but user_id). Columns are canonical, see `model.data.columns`.
    """

    schema: FeatureSchema
    examples: pl.DataFrame
    apps: pl.DataFrame
    users: pl.DataFrame
    facts: Facts


def promised(schema: FeatureSchema) -> dict[str, dict[str, pl.DataType]]:
    """The columns that every dataset of a schema has, by frame; `examples` may have at, request_id and position too."""
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
    for name, frame in (("examples", dataset.examples), ("apps", dataset.apps), ("users", dataset.users)):
        frame.write_parquet(partial / f"{name}.parquet")
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
        examples, apps, users = (pl.read_parquet(found / f"{name}.parquet") for name in ("examples", "apps", "users"))
    except (OSError, SchemaError, ValidationError, pl.exceptions.PolarsError) as error:
        first = str(error).splitlines()[0]
        raise DatasetError(
            f"the data in {found} is damaged ({first}); run `appshelf import FORMAT PATH` again"
        ) from error
    dataset = Dataset(schema, examples, apps, users, facts)
    if lacking := _lacking(dataset):
        raise DatasetError(f"the data in {found} lacks {', '.join(lacking)}; run `appshelf import FORMAT PATH` again")
    return dataset


def user_histories(dataset: Dataset) -> dict[str, dict[str, int]]:
    """What the store should know of each user: app id to count, most used first, ties by app id.

    Counted are the positives (of a log without times: of the train split only), and one for each app that the user
    had installed before the log began. Users without either are left out.
    """
    positive = pl.col("label") == 1
    known = positive if dataset.facts.timed else positive & (pl.col("split") == "train")
    events = dataset.examples.filter(known).select("user_id", "app_id")
    installed = dataset.users.select("user_id", app_id="installed").explode("app_id").drop_nulls()
    counts = pl.concat([events, installed]).group_by("user_id", "app_id").len("count")
    ordered = counts.sort(["user_id", "count", "app_id"], descending=[False, True, False])
    lists = ordered.group_by("user_id", maintain_order=True).agg("app_id", "count")
    return {user: dict(zip(apps, uses, strict=True)) for user, apps, uses in lists.iter_rows()}


def _beside(folder: Path, what: str) -> Path:
    return folder.with_name(f".{folder.name}.{what}")


def _lacking(dataset: Dataset) -> list[str]:
    """The promised columns that a frame does not hold in their type."""
    frames = {"examples": dataset.examples, "apps": dataset.apps, "users": dataset.users}
    return [
        f"{frame}.{name} ({dtype})"
        for frame, columns in promised(dataset.schema).items()
        for name, dtype in columns.items()
        if frames[frame].schema.get(name) != dtype
    ]
