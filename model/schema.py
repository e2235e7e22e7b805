"""The feature schema: which fields exist, where each value comes from, what kind it is, and which are crossed."""

import hashlib
import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""Reads plain values only; the one in C, where there is one, takes a tenth of the time."""

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,63}$")]


class SchemaError(ValueError):
    """A schema file is not a schema; the message names the place, the value seen and what is allowed."""


class Source(StrEnum):
    """Where a field's value comes from when a request is ranked."""

    USER = "user"
    CONTEXT = "context"
    HISTORY = "history"
    APP = "app"
    PAIR = "pair"


class Kind(StrEnum):
    """How a field's value is encoded: one id, a bag of ids, or a number in [0, 1]."""

    CATEGORICAL = "categorical"
    MULTI = "multi"
    CONTINUOUS = "continuous"


class PairStatistic(StrEnum):
    """A number computed from the user's history and the candidate, the same way in training and in serving."""

    USES = "uses"  # how often the user used the candidate before
    OTHERS = "others"  # how many other users are known to use the candidate
    IN_CONTEXT = "in_context"  # how many users are known to use the candidate under the request's value of `by`
    SIMILAR = "similar"  # which share of those who have an app of the user's has the candidate too, over their apps


class FieldSpec(BaseModel):
    """One input column."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Name
    source: Source
    kind: Kind
    min_count: int = Field(1, ge=1)
    dim: int | None = Field(None, ge=1, le=1024)
    quantiles: int = Field(20, ge=2, le=1000)
    max_values: int = Field(50, ge=1, le=1000)
    required: bool = False
    of: PairStatistic | None = None
    by: Name | None = None

    @property
    def measure(self) -> str | None:
        """What a pair field counts, by a name that tells it from any other: `uses`, `in_context.daytime`."""
        return None if self.of is None else ".".join(filter(None, (self.of, self.by)))

    @model_validator(mode="after")
    def _source_fits_kind(self) -> Self:
        if self.source is Source.HISTORY and self.kind is not Kind.MULTI:
            raise ValueError(f"history field {self.name!r} is {self.kind}; a history field is multi")
        if (self.source is Source.PAIR) != (self.of is not None):
            raise ValueError(f"field {self.name!r}: 'of' goes with source pair, and only with it")
        if self.source is Source.PAIR and self.kind is not Kind.CONTINUOUS:
            raise ValueError(f"pair field {self.name!r} is {self.kind}; a pair field is continuous")
        if (self.of is PairStatistic.IN_CONTEXT) != (self.by is not None):
            raise ValueError(f"field {self.name!r}: 'by' names the field to count by, for 'of: in_context' alone")
        if self.required and self.source not in (Source.USER, Source.CONTEXT):
            raise ValueError(f"field {self.name!r} of source {self.source} cannot be required in a request")
        return self


class CrossSpec(BaseModel):
    """A cross-product feature: the AND of two or more fields (Cheng et al. 2016, equation 1)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: tuple[Name, ...] = Field(min_length=2)
    bits: int = Field(18, ge=4, le=28)
    exact: bool = False
    min_count: int = Field(1, ge=1)

    @property
    def name(self) -> str:
        """The crossed fields, joined: `installed*app_id`."""
        return "*".join(self.fields)


class NegativeRule(StrEnum):
    """How negatives are drawn for a log that has positives only."""

    UNIFORM = "uniform"  # any app but the positive's own
    UNUSED = "unused"  # any app that this user never used, without replacement over the user's rows


class Negatives(BaseModel):
    """Negatives drawn for each positive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    rule: NegativeRule = NegativeRule.UNUSED
    per_positive: int = Field(4, ge=1, le=100)


class LogSpec(BaseModel):
    """Which columns of a log mean what, and which events count as positive."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    user: str = "user_id"
    app: str = "app_id"
    at: str | None = None
    split: str | None = None
    request: str | None = None
    position: str | None = None
    label: str = "label"
    positive: tuple[str, ...] = ("1", "true")
    negatives: Negatives | None = None


class FeatureSchema(BaseModel):
    """Everything that says how raw values become the network's input."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    fields: tuple[FieldSpec, ...] = Field(min_length=1)
    crosses: tuple[CrossSpec, ...] = ()
    retired: tuple[Name, ...] = ()
    log: LogSpec = LogSpec()

    @model_validator(mode="after")
    def _names_fit(self) -> Self:
        names = [field.name for field in self.fields]
        doubled = sorted({name for name in names if names.count(name) > 1})
        if doubled:
            raise ValueError(f"fields named twice: {', '.join(doubled)}")
        if len(past := self.from_source(Source.HISTORY)) > 1:
            raise ValueError(f"several history fields: {', '.join(past)}; there is one history, so one field holds it")
        if both := sorted(set(names) & set(self.retired)):
            raise ValueError(f"fields both declared and retired: {', '.join(both)}")
        for cross in self.crosses:
            self._check_cross(cross)
        for field in self.fields:
            self._check_by(field)
        return self

    def _check_by(self, field: FieldSpec) -> None:
        possible = [one.name for one in self.of(Source.USER, Source.CONTEXT, kind=Kind.CATEGORICAL)]
        allowed = [name for name in possible if name != "user_id"]
        if field.by is not None and field.by not in allowed:
            hint = "own uses are 'of: uses'" if field.by == "user_id" else f"there are {', '.join(allowed) or 'none'}"
            raise ValueError(f"field {field.name!r}: {field.by!r} is no categorical user or context field; {hint}")

    def _check_cross(self, cross: CrossSpec) -> None:
        specs = {field.name: field for field in self.fields}
        for name in cross.fields:
            if name not in specs:
                raise ValueError(f"cross {cross.name}: no field {name!r}; there are {', '.join(specs)}")
            if specs[name].kind is Kind.CONTINUOUS:
                raise ValueError(f"cross {cross.name}: {name!r} is continuous; a cross takes ids")
        multi = [name for name in cross.fields if specs[name].kind is Kind.MULTI]
        if len(multi) > 1 or any(specs[name].source is Source.APP for name in multi):
            raise ValueError(f"cross {cross.name}: at most one multi-valued field, on the request's side")

    def of(self, *sources: Source, kind: Kind) -> tuple[FieldSpec, ...]:
        """The fields of these sources and this kind, in the order declared."""
        return tuple(field for field in self.fields if field.source in sources and field.kind is kind)

    def from_source(self, source: Source) -> dict[str, FieldSpec]:
        """The fields of one source by name."""
        return {field.name: field for field in self.fields if field.source is source}

    def fingerprint(self) -> str:
        """The sha256 of what shapes the network's input; the log's column names do not count."""
        shape = self.model_dump(mode="json", include={"fields", "crosses"})
        shape["fields"] = [_without_by(field) for field in shape["fields"]]
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()

    def incompatibilities(self, live: "FeatureSchema") -> list[str]:
        """Why clients of `live` would be refused under this schema; empty when they would not."""
        reasons = []
        for source in (Source.USER, Source.CONTEXT):
            mine, theirs = self.from_source(source), live.from_source(source)
            for name, field in mine.items():
                before = theirs.get(name)
                if field.required and not (before and before.required):
                    reasons.append(f"{source} field {name!r} is newly required")
                if before and before.kind is not field.kind:
                    reasons.append(f"{source} field {name!r} was {before.kind} and is now {field.kind}")
            gone = [name for name in theirs if name not in mine and name not in self.retired]
            reasons += [f"{source} field {name!r} is gone and not listed as retired" for name in gone]
        return reasons

    def compatible(self, live: "FeatureSchema") -> bool:
        """True when every request that `live` accepts is accepted under this schema too."""
        return not self.incompatibilities(live)


def _without_by(field: dict[str, Any]) -> dict[str, Any]:
    """A field without `by` where it has none, as the bundles of releases that knew no `by` were sealed."""
    return {name: value for name, value in field.items() if name != "by" or value is not None}


def parse_schema(text: str, *, origin: str = "schema.yaml") -> FeatureSchema:
    """Read a schema from YAML text. Raises SchemaError naming `origin` and the first thing wrong."""
    try:
        raw = yaml.load(text, Loader=LOADER)
    except yaml.YAMLError as error:
        raise SchemaError(f"{origin} is not YAML: {error}") from error
    if raw is None:
        raise SchemaError(f"{origin} is empty; draft one with `appshelf draft FOLDER --out FILE`")
    try:
        return FeatureSchema.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the schema"
        raise SchemaError(f"{origin}: {place}: {first['msg']}") from error


def read_schema(path: Path) -> FeatureSchema:
    """Read a schema file. Raises SchemaError where it is missing or wrong."""
    try:
        return parse_schema(path.read_text(encoding="utf-8"), origin=str(path))
    except OSError as error:
        advice = "draft one with `appshelf draft FOLDER`"
        raise SchemaError(f"{path} cannot be read ({error.strerror}); {advice}") from error


def dump_schema(schema: FeatureSchema) -> str:
    """The schema as YAML text that `parse_schema` reads back to an equal schema."""
    return yaml.safe_dump(schema.model_dump(mode="json", exclude_defaults=True), sort_keys=False)
