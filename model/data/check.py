"""Check raw tables row by row against the schema: canonical columns for the good rows, faults for the others."""

from collections.abc import Iterable

import polars as pl

from model.data.columns import DTYPES, Column, canonical, either, nulls, places, reason, texts, where
from model.data.labels import labels
from model.data.readers import Table
from model.data.report import FaultLog, FileReport, ImportRefused
from model.data.splits import split_names
from model.data.times import times
from model.schema import FeatureSchema, FieldSpec, Kind, LogSpec, Source

FLAGS = ("true", "1", "false", "0")


class TableCheck:
    """One table under check: takes columns one by one, remembers which rows are bad and which columns were used."""

    def __init__(self, table: Table, faults: FaultLog) -> None:
        self.table = table
        self._faults = faults
        self._columns: dict[str, pl.Series] = {"row": table.rows}
        self._good = pl.repeat(True, len(table.rows), eager=True)
        self._used: set[str] = set()
        for fault in table.malformed:
            faults.add(fault)

    def raw(self, name: str) -> pl.Series | None:
        """The raw column, None where the file has none."""
        self._used.add(name)
        return self.table.frame.get_column(name) if name in self.table.frame.columns else None

    def take(self, name: str, column: Column, *, field: str) -> None:
        """Keep a judged column as `name` and report its faults under the file's own column name, `field`."""
        self._columns[name] = column.values.alias(name)
        bad = column.why.is_not_null()
        if bad.any():
            raw = self.raw(field)
            values = nulls(len(bad), pl.Null()) if raw is None else raw
            found = {"row": self.table.rows.filter(bad), "value": values.filter(bad), "why": column.why.filter(bad)}
            self._faults.add_column(self.table.file, field, pl.DataFrame(found))
            self._good &= ~bad

    def take_id(self, name: str, column_name: str) -> None:
        """Keep the column as an id: a text that is there and not empty. Raises ImportRefused without the column."""
        self.take(name, _given(texts(self.needed(column_name))), field=column_name)

    def needed(self, name: str) -> pl.Series:
        """The raw column; raises ImportRefused where the file has none."""
        raw = self.raw(name)
        if raw is None:
            held = ", ".join(self.table.frame.columns)
            raise ImportRefused(f"{self.table.file} has no column {name!r}, it has {held}; name it in schema.yaml")
        return raw

    def take_field(self, spec: FieldSpec, known: pl.Series | None = None) -> None:
        """Keep a field's column, its missing values filled from `known` (n,), canonical as well."""
        raw = self.raw(spec.name)
        if raw is None:
            column = Column.good(nulls(len(self.table.rows), DTYPES[spec.kind]))
        else:
            column = canonical(raw, spec.kind, textual=self.table.textual)
        absent = self.table.absent.get(spec.name)
        values = column.values if absent is None else where(~absent, column.values)
        if known is not None:
            values = either(values, known)
        lacking = reason(values.is_null() & spec.required, "missing, and the field is required")
        self.take(spec.name, Column(values, either(column.why, lacking)), field=spec.name)

    def column(self, name: str) -> pl.Series:
        """A column taken before, over all rows."""
        return self._columns[name]

    def good(self) -> pl.DataFrame:
        """The rows without a fault: every column taken, and `row`, the number in the file."""
        return pl.DataFrame(self._columns).filter(self._good)

    def report(self, kept: pl.DataFrame, *, duplicates: int = 0) -> FileReport:
        """What became of the file's rows and columns."""
        ignored = tuple(name for name in self.table.frame.columns if name not in self._used)
        read = len(self.table.rows) + len(self.table.malformed)
        return FileReport(self.table.file, read, kept.height, duplicates, ignored)


def check_events(check: TableCheck, schema: FeatureSchema, users: pl.DataFrame) -> pl.DataFrame:
    """The log's good rows: row, user_id, app_id, label (null = neither), at, split, request_id, position, fields.

    `users` has user_id and the user fields known from elsewhere; they fill what a row lacks.
    """
    log = schema.log
    check.take_id("user_id", log.user)
    check.take_id("app_id", log.app)
    _take_label(check, log)
    if log.at:
        check.take("at", times(check.needed(log.at)), field=log.at)
    if log.split:
        check.take("split", split_names(check.needed(log.split)), field=log.split)
    if log.request:
        check.take_id("request_id", log.request)
    if log.position:
        check.take("position", places(check.needed(log.position), textual=check.table.textual), field=log.position)
    looked_up = check.column("user_id").to_frame().join(users, on="user_id", how="left", maintain_order="left")
    for spec in log_fields(schema, Source.USER, "user_id"):
        check.take_field(spec, looked_up[spec.name])
    for spec in log_fields(schema, Source.CONTEXT):
        check.take_field(spec)
    return check.good()


def check_apps(check: TableCheck, schema: FeatureSchema) -> tuple[pl.DataFrame, FileReport]:
    """The good apps, the last of each id: app_id, available, countries, fields; and what became of the file."""
    check.take_id("app_id", _id_column(check.table, (schema.log.app, "app_id", "id")))
    flag, flags = check.raw("available"), nulls(len(check.table.rows), pl.String())
    check.take("available", _flag(flags if flag is None else flag), field="available")
    check.take_field(FieldSpec(name="countries", source=Source.APP, kind=Kind.MULTI))
    return _last_of_each(check, "app_id", log_fields(schema, Source.APP, "app_id"))


def check_users(check: TableCheck, schema: FeatureSchema) -> tuple[pl.DataFrame, FileReport]:
    """The good users, the last of each id: user_id, installed, fields; and what became of the file."""
    check.take_id("user_id", _id_column(check.table, (schema.log.user, "user_id", "id")))
    history = log_fields(schema, Source.HISTORY)[:1]
    optional = [spec.model_copy(update={"required": False}) for spec in log_fields(schema, Source.USER, "user_id")]
    users, report = _last_of_each(check, "user_id", [*optional, *history])
    return users.rename({spec.name: "installed" for spec in history}), report


def log_fields(schema: FeatureSchema, source: Source, *but: str) -> list[FieldSpec]:
    """The fields of a source except those named."""
    return [spec for name, spec in schema.from_source(source).items() if name not in but]


def _last_of_each(check: TableCheck, key: str, specs: Iterable[FieldSpec]) -> tuple[pl.DataFrame, FileReport]:
    """The good rows of the columns taken and of `specs`, the last of each key, which is counted once."""
    for spec in specs:
        check.take_field(spec)
    good = check.good().drop("row")
    last = good.unique(key, keep="last", maintain_order=True)
    return last, check.report(last, duplicates=good.height - last.height)


def _take_label(check: TableCheck, log: LogSpec) -> None:
    """The label; where a log of positives only has no label column and the schema names none, all are positive."""
    if log.negatives and log.label == LogSpec().label and log.label not in check.table.frame.columns:
        ones = pl.repeat(1, len(check.table.rows), dtype=pl.Int8, eager=True)
        check.take("label", Column.good(ones), field=log.label)
    else:
        check.take("label", labels(check.needed(log.label), log), field=log.label)


def _given(column: Column) -> Column:
    """The column with a fault where there is no text."""
    missing = column.values.is_null() | (column.values == "")
    return Column.of(column.values, either(column.why, reason(missing, "missing")))


def _flag(raw: pl.Series) -> Column:
    """A column of true and false, true where nothing is said."""
    column = texts(raw)
    lower = column.values.str.to_lowercase()
    unknown = reason(lower.is_not_null() & ~lower.is_in(FLAGS), f"none of {', '.join(FLAGS)}")
    return Column(lower.is_in(FLAGS[:2]).fill_null(True), either(column.why, unknown))


def _id_column(table: Table, names: tuple[str, ...]) -> str:
    for name in names:
        if name in table.frame.columns:
            return name
    raise ImportRefused(
        f"{table.file} has no id column: none of {', '.join(names)} in {', '.join(table.frame.columns)}"
    )
