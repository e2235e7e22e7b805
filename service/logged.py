"""The log and the store as canonical frames, put together a page at a time so that no window is held as objects."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, TypeVar

import msgspec
import numpy as np
import polars as pl

from model.data.columns import DTYPES
from model.data.dataset import HISTORY, KEYS, LOGGED, promised
from model.query import Value, ValueRefused
from model.schema import FeatureSchema, FieldSpec, Source
from model.scorer import CANONICAL
from service.labels import SHOWN
from service.store.log_ports import Impression, Shown
from service.store.ports import AppRecord, UserRecord

PAGE = 5_000
TIME = pl.Datetime("us", "UTC")
SCORED = pl.Schema({**SHOWN, **{name: LOGGED[name] for name in ("uses", "others", "measures", "app_revision")}})

Item = TypeVar("Item")
Frame = TypeVar("Frame")
Values = tuple[Any, ...]


@dataclass(frozen=True)
class Page:
    """Impressions as frames.

    requests: a row an impression: request_id, history and every user and context field; shown: a row an app, the
    columns of SCORED, see `model.data.dataset.LOGGED`.
    """

    requests: pl.DataFrame
    shown: pl.DataFrame


class Canon:
    """Raw values to canonical ones, as a scorer takes them; what does not fit its field counts as missing.

    misfits: how many values did not fit, by field.
    """

    def __init__(self) -> None:
        self.misfits: Counter[str] = Counter()

    def value(self, raw: Mapping[str, Value], field: FieldSpec) -> Any:  # noqa: ANN401 - a text, a number or a list
        """The canonical value of one field, None where it is missing."""
        if field.name not in raw:
            return None
        try:
            return CANONICAL[field.kind](raw[field.name])
        except ValueRefused:
            self.misfits[field.name] += 1
            return None

    def columns(self, rows: Sequence[Mapping[str, Value]], fields: Iterable[FieldSpec]) -> list[pl.Series]:
        """A column (n,) for each field."""
        return [
            pl.Series(field.name, [self.value(row, field) for row in rows], dtype=DTYPES[field.kind])
            for field in fields
        ]


class Revisions:
    """Apps as they were scored, where that differs from the catalogue of now: each difference is kept once."""

    def __init__(self, canon: Canon, schema: FeatureSchema, apps: pl.DataFrame) -> None:
        self._canon = canon
        self._fields = fields_of(schema, Source.APP)
        self._names = [field.name for field in self._fields]
        self._now = {row[0]: _frozen(row[1:]) for row in apps.select("app_id", *self._names).iter_rows()}
        self._numbers: dict[tuple[str, Values], int] = {}
        self._scored: dict[tuple[str, bytes], int | None] = {}

    def __len__(self) -> int:
        return len(self._numbers)

    def of_shown(self, shown: Shown) -> int | None:
        """The revision that an app was scored as, None where it is as it is now."""
        key = shown.app_id, msgspec.json.encode(shown.features)
        if key not in self._scored:
            values = [self._canon.value(shown.features, field) for field in self._fields]
            self._scored[key] = self._number(shown.app_id, values)
        return self._scored[key]

    def of_apps(self, apps: pl.DataFrame) -> pl.Series:
        """(A,) Int64: the revision of each of these apps (app_id and every app field, canonical), null as above."""
        rows = apps.select("app_id", *self._names).iter_rows()
        return pl.Series([self._number(row[0], row[1:]) for row in rows], dtype=pl.Int64)

    def frame(self) -> pl.DataFrame:
        """Every revision in order of its number: app_id and every app field."""
        columns = [pl.Series("app_id", [app_id for app_id, _ in self._numbers], dtype=pl.String)]
        for place, field in enumerate(self._fields):
            values = [values[place] for _, values in self._numbers]
            columns.append(pl.Series(field.name, values, dtype=DTYPES[field.kind]))
        return pl.DataFrame(columns)

    def gone(self) -> pl.DataFrame:
        """The apps that the catalogue has no more, as they were last: nobody can be shown them."""
        here = pl.DataFrame({"app_id": list(self._now)}, schema={"app_id": pl.String})
        last = self.frame().join(here, on="app_id", how="anti").unique("app_id", keep="last", maintain_order=True)
        nowhere = pl.lit([], dtype=pl.List(pl.String)).alias("countries")
        return last.with_columns(pl.lit(False).alias("available"), nowhere)

    def _number(self, app_id: str, values: Iterable[Any]) -> int | None:
        frozen = _frozen(values)
        if self._now.get(app_id) == frozen:
            return None
        return self._numbers.setdefault((app_id, frozen), len(self._numbers))


class Histories:
    """Histories laid end to end: of so many small ones a list of objects each would take far longer."""

    def __init__(self) -> None:
        self._apps, self._counts, self._lengths = list[str](), list[int](), list[int]()

    def add(self, history: Mapping[str, int]) -> None:
        """Take one more."""
        self._apps.extend(history)
        self._counts.extend(history.values())
        self._lengths.append(len(history))

    def series(self) -> pl.Series:
        """(n,) all of them in order, as LOGGED has them."""
        row = np.repeat(np.arange(len(self._lengths)), self._lengths)
        flat = {"row": row, "app_id": self._apps, "count": self._counts}
        entries = pl.DataFrame(flat, schema={"row": pl.Int64, "app_id": pl.String, "count": pl.Int64})
        packed = entries.group_by("row", maintain_order=True).agg(pl.struct("app_id", "count").alias("history"))
        every = pl.int_range(len(self._lengths), eager=True).alias("row").to_frame()
        joined = every.join(packed, on="row", how="left", maintain_order="left")["history"]
        return joined.cast(HISTORY).fill_null(pl.Series([[]], dtype=HISTORY))


class Reader:
    """Turns impressions into pages, and knows the revisions and misfits of all that it has turned."""

    def __init__(self, schema: FeatureSchema, apps: Iterable[AppRecord]) -> None:
        self.canon = Canon()
        self.apps = _app_frame(self.canon, schema, list(apps))
        self.revisions = Revisions(self.canon, schema, self.apps)
        self.schema = schema

    def page(self, impressions: Iterable[Impression]) -> Page:
        """The frames of these impressions, in order. None is held: as objects they keep the garbage collector busy."""
        fields = fields_of(self.schema, Source.USER, Source.CONTEXT)
        ids, values = list[str](), [list[Any]() for _ in fields]
        histories, shown = Histories(), list[tuple[Any, ...]]()
        for one in impressions:
            ids.append(one.request_id)
            raw = {**one.user, **one.context}
            for column, field in zip(values, fields, strict=True):
                column.append(self.canon.value(raw, field))
            histories.add(one.history)
            shown.extend(self._scored(one))
        columns = [
            pl.Series(field.name, column, dtype=DTYPES[field.kind])
            for column, field in zip(values, fields, strict=True)
        ]
        request = pl.Series("request_id", ids, dtype=pl.String)
        return Page(pl.DataFrame([request, histories.series(), *columns]), pl.DataFrame(shown, SCORED, orient="row"))

    def _scored(self, one: Impression) -> Iterator[tuple[Any, ...]]:
        """The rows of SCORED of one impression."""
        first, used = (one.request_id, one.user_id, one.at), one.history.get
        for item in one.items:
            statistics = float(used(item.app_id, 0)), float(item.others)
            measures = [{"name": name, "value": value} for name, value in item.measures.items()] or None
            yield *first, item.app_id, item.position, *statistics, measures, self.revisions.of_shown(item)

    def users(self, records: Iterable[UserRecord]) -> pl.DataFrame:
        """Every user as they are now: user_id, installed and every user field."""
        frames = [pl.DataFrame(schema=promised(self.schema)["users"])]
        frames += framed(records, self._user_frame)
        return pl.concat(frames)

    def _user_frame(self, records: Iterable[UserRecord]) -> pl.DataFrame:
        users = list(records)
        ids = pl.Series("user_id", [one.id for one in users], dtype=pl.String)
        installed = pl.Series("installed", [list(one.history) for one in users], dtype=pl.List(pl.String))
        fields = fields_of(self.schema, Source.USER)
        return pl.DataFrame([ids, installed, *self.canon.columns([one.features for one in users], fields)])


def with_times(shown: pl.DataFrame) -> pl.DataFrame:
    """The rows with `at`, epoch seconds, as a time of whole microseconds."""
    return shown.with_columns((pl.col("at") * 1e6).round().cast(pl.Int64).cast(TIME))


def is_after(at: float, other: float) -> bool:
    """Whether one time is after another as a dataset tells times apart, by whole microseconds."""
    return round(at * 1e6) > round(other * 1e6)


def framed(items: Iterable[Item], make: Callable[[Iterable[Item]], Frame]) -> Iterator[Frame]:
    """What `make` makes of PAGE items after PAGE items; it must take all of them."""
    rest = iter(items)
    for first in rest:
        yield make(chain([first], islice(rest, PAGE - 1)))


def fields_of(schema: FeatureSchema, *sources: Source) -> list[FieldSpec]:
    """The fields of these sources but the ids, in the order in which a dataset has their columns."""
    return [spec for source in sources for name, spec in schema.from_source(source).items() if name not in KEYS]


def _app_frame(canon: Canon, schema: FeatureSchema, apps: Sequence[AppRecord]) -> pl.DataFrame:
    """The catalogue of now: app_id, available, countries and every app field."""
    columns = [
        pl.Series("app_id", [app.id for app in apps], dtype=pl.String),
        pl.Series("available", [app.available for app in apps], dtype=pl.Boolean),
        pl.Series("countries", [list(app.countries) for app in apps], dtype=pl.List(pl.String)),
    ]
    return pl.DataFrame([*columns, *canon.columns([app.features for app in apps], fields_of(schema, Source.APP))])


def _frozen(values: Iterable[Any]) -> Values:
    """Values as a key: lists as tuples, and the one NaN for all, since a tuple finds an object equal to itself."""
    return tuple(tuple(value) if isinstance(value, list) else math.nan if value != value else value for value in values)
