"""Draft a schema from a raw log: guess what each column is, cross it as a store would, and say what was left out."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import polars as pl

from model.data.columns import SEPARATOR, canonical, texts
from model.data.prepare import RESERVED
from model.data.readers import RawLog, Table
from model.data.roles import APP, USER, guess_log, mostly_good, named, unread
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, LogSpec, PairStatistic, Source

HISTORY = ("installed", "history", "owned", "apps")
PAIRS = {
    "own_uses": PairStatistic.USES, "other_users": PairStatistic.OTHERS, "similar_apps": PairStatistic.SIMILAR
}  # fmt: skip
NAME = r"[a-z][a-z0-9_]{0,63}"
FEW = 50
SAMPLE = 20_000
MOST_CROSSES = 20
MOST_COUNTED = 5
TELLING = (
    "nothing is counted of the candidate, since without times each count would tell its row's label; a column "
    "`timestamp` would allow it"
)
MOST_SHOWN = 5


@dataclass(frozen=True)
class Draft:
    """A schema to start from, and a line for each column left out, with the reason, and for each doubtful choice."""

    schema: FeatureSchema
    notes: tuple[str, ...]


def draft(log: RawLog) -> Draft:
    """Guess a schema under which `log` can be imported. Raises ImportRefused where no column can be user or app."""
    columns = guess_log(log.events)
    history = (named(log.users, HISTORY) if log.users else None) or HISTORY[0]
    guesses = [*_listed(log.users, Source.USER, (*USER, "id", history))]
    guesses += _listed(log.apps, Source.APP, (*APP, "id", "available", "countries"))
    guesses += _logged(log.events, columns, {guess.name: guess for guess in guesses if isinstance(guess, FieldSpec)})
    found = [guess for guess in guesses if isinstance(guess, FieldSpec)]
    fields = (
        FieldSpec(name="user_id", source=Source.USER, kind=Kind.CATEGORICAL),
        *(field for field in found if field.source is not Source.APP),
        FieldSpec(name=history, source=Source.HISTORY, kind=Kind.MULTI),
        FieldSpec(name="app_id", source=Source.APP, kind=Kind.CATEGORICAL),
        *(field for field in found if field.source is Source.APP),
    )
    telling = columns.at is None and columns.negatives is None
    fields += () if telling else tuple(_pairs(fields))
    notes = (*(guess for guess in guesses if isinstance(guess, str)), *_drawing(columns, log.events))
    notes += (f"{log.events.file}: {TELLING}",) * telling
    return Draft(FeatureSchema(fields=fields, crosses=_crosses(fields), log=columns), notes)


def _drawing(log: LogSpec, events: Table) -> Iterator[str]:
    """What drawing negatives means for the events that are not positive."""
    if log.negatives is None:
        return
    if log.label not in events.frame.columns:
        yield f"{events.file}: every row counts as positive, since no column is known to say what happened"
    drawn = f"{log.negatives.per_positive} negatives are drawn for each positive by rule {str(log.negatives.rule)!r}"
    if log.label in events.frame.columns:
        drawn += f"; other events than {', '.join(log.positive)} count as neither, so where they are what was shown"
        drawn += " and not taken, write `negatives: null`"
    yield f"{events.file}: {drawn}"


def _crosses(fields: Iterable[FieldSpec]) -> tuple[CrossSpec, ...]:
    """What is installed, and each category of user and context, with the candidate."""
    categories = [field for field in fields if field.kind is Kind.CATEGORICAL and field.name != "user_id"]
    names = [field.name for field in fields if field.source is Source.HISTORY]
    names += [field.name for field in categories if field.source in (Source.USER, Source.CONTEXT)]
    return tuple(CrossSpec(fields=(name, "app_id")) for name in names[:MOST_CROSSES])


def _pairs(fields: Sequence[FieldSpec]) -> Iterator[FieldSpec]:
    """What is counted of the candidate: all of PAIRS, and who uses it under the context's first few categories.

    Not of a log without times that has its own negatives: all positives but the row's own are counted there, which is
    one less for each positive, and a net learns that instead of anything else.
    """
    yield from (FieldSpec(name=name, source=Source.PAIR, kind=Kind.CONTINUOUS, of=of) for name, of in PAIRS.items())
    taken = {field.name for field in fields} | PAIRS.keys()
    contexts = [field.name for field in fields if (field.source, field.kind) == (Source.CONTEXT, Kind.CATEGORICAL)]
    for name in contexts[:MOST_COUNTED]:
        counted = f"users_by_{name}"
        if re.fullmatch(NAME, counted) and counted not in taken:
            yield FieldSpec(
                name=counted, source=Source.PAIR, kind=Kind.CONTINUOUS, of=PairStatistic.IN_CONTEXT, by=name
            )


def _listed(table: Table | None, source: Source, but: Iterable[str]) -> Iterator[FieldSpec | str]:
    """A field for each column of the users or apps file, but its ids and what the store keeps itself."""
    for name in table.frame.columns if table else ():
        if table and name not in but:
            yield _field(table, name, source)


def _logged(events: Table, log: LogSpec, listed: dict[str, FieldSpec]) -> Iterator[FieldSpec | str]:
    """A user or context field for each column of the log that has no other meaning."""
    meant = {log.user, log.app, log.at, log.split, log.request, log.position, log.label}
    doubtful = unread(events, log)
    for name in events.frame.columns:
        source = listed[name].source if name in listed else None
        if name in meant or source is Source.USER:
            continue
        if name == doubtful:
            yield f"{events.file}, {name}: left out: {_unread(events, name)}"
        elif source is Source.APP or _follows(events, name, log.app):
            yield f"{events.file}, {name}: left out: it belongs to the app; give it in the apps file"
        else:
            yield _field(events, name, Source.USER if _follows(events, name, log.user) else Source.CONTEXT)


def _unread(events: Table, name: str) -> str:
    """What to do about a column that may say what happened and is not understood."""
    values = texts(events.frame[name]).values.drop_nulls().unique().sort().to_list()
    shown = ", ".join(values[:MOST_SHOWN]) + (", ..." if len(values) > MOST_SHOWN else "")
    return (
        f"none of its values ({shown}) is known to be positive; where it says what happened, write "
        f"`log: {{label: {name}, positive: [VALUE]}}`, and declare it as a field where it does not"
    )


def _field(table: Table, name: str, source: Source) -> FieldSpec | str:
    """The field that a column makes, or a line saying why it makes none."""
    found = _kind(table, name)
    if name in (*RESERVED[source], HISTORY[0], *PAIRS):
        found = f"the name has a meaning of its own among {source} fields; rename the column, as to my_{name}"
    elif not re.fullmatch(NAME, name):
        found = f"a field cannot be called that; rename it to match {NAME}"
    if isinstance(found, Kind):
        return FieldSpec(name=name, source=source, kind=found)
    return f"{table.file}, {name}: left out: {found}"


def _follows(table: Table, name: str, key: str) -> bool:
    """Whether a column is one and the same for each value of `key`, in a table that could show otherwise."""
    raw = table.frame[name]
    values = texts(raw).values if raw.dtype == pl.Object else raw
    pairs = pl.DataFrame({"key": texts(table.frame[key]).values, "value": values}).drop_nulls()
    keys = pairs["key"].n_unique()
    return pairs.height >= 2 * keys and pairs["value"].n_unique() > 1 and pairs.unique().height == keys


def _kind(table: Table, name: str) -> Kind | str:
    """What kind of field a column is, or why it should be none."""
    raw = table.frame[name]
    given = raw.filter(raw.is_not_null()).head(SAMPLE)
    if given.is_empty():
        return "it has no values"
    judged = {kind: canonical(given, kind, textual=table.textual) for kind in Kind}
    numbers, words = judged[Kind.CONTINUOUS], judged[Kind.CATEGORICAL]
    many = numbers.values.n_unique() > FEW
    if mostly_good(numbers) and (many or not mostly_good(words) or (numbers.values % 1 > 0).any()):
        return Kind.CONTINUOUS
    separated = given.str.contains(SEPARATOR, literal=True).sum() * 2 > len(given) if table.textual else True
    if separated and mostly_good(judged[Kind.MULTI]):
        return Kind.MULTI
    if not mostly_good(words):
        return f"most values are bad: {words.why.drop_nulls()[0]}"
    distinct = words.values.n_unique()
    return "nearly every value is another" if distinct > max(FEW, len(given) / 2) else Kind.CATEGORICAL
