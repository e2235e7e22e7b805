"""Grow a fitted transform by what a newer log holds: old ids stay, new ones follow, known numbers keep their scale."""

from dataclasses import replace

import numpy as np

from model.crosses import Crosses
from model.data.census import population_of
from model.data.dataset import Dataset
from model.data.history import audience_of
from model.data.training_rows import TrainingRows
from model.fitting import Keys, no_keys
from model.schema import CrossSpec, FeatureSchema, FieldSpec, Kind, Source
from model.transforms import Transform
from model.vocabulary import Vocabulary


def grow(parent: Transform, schema: FeatureSchema, dataset: Dataset, *, compact: bool) -> Transform:
    """The parent's transform under `schema`, with what the dataset's training split adds to it.

    A vocabulary keeps its values in their order, takes in new ones by their minimum count, and adds up its counts. A
    known continuous field keeps its quantiles, since the net's weights are for numbers of that meaning. An exact cross
    keeps its keys and takes in new ones. What is counted of all users is the dataset's, or where that is a window of
    the service's own log, carried on (see `model.data.census`). Fields are told by name; one that is new is fitted.
    compact: values and keys that the training split does not hold are left out.
    """
    rows = TrainingRows(schema, dataset)
    seen = rows.seen_values()
    known = known_fields(parent.schema, schema)
    vocabularies = {}
    for field in schema.fields:
        if field.name in seen:
            before = parent.vocabularies[field.name] if field.name in known else Vocabulary.none(field.name)
            vocabularies[field.name] = before.grown(seen[field.name], min_count=field.min_count, compact=compact)
    quantiles = rows.quantiles()
    quantiles |= {name: parent.quantiles[name] for name in quantiles if name in known}
    population = population_of(schema, dataset, before=parent.population)
    crosses = no_keys(schema, vocabularies)
    transform = Transform(schema, vocabularies, quantiles, crosses, audience_of(dataset), population)
    counted = rows.keys(transform)
    past = {name: parent.crosses.seen[name] for name in known_crosses(parent.schema, schema) if name in counted}
    kept = {
        cross.name: _union(past.get(cross.name), counted[cross.name], cross=cross, compact=compact)
        for cross in schema.crosses
        if cross.exact
    }
    return replace(transform, crosses=Crosses(schema, vocabularies, kept))


def known_fields(before: FeatureSchema, after: FeatureSchema) -> frozenset[str]:
    """The fields that mean the same to a net in both schemas: of one side, and numbers in both or in neither."""
    old = {field.name: _meaning(field) for field in before.fields}
    return frozenset(field.name for field in after.fields if old.get(field.name) == _meaning(field))


def known_crosses(before: FeatureSchema, after: FeatureSchema) -> frozenset[str]:
    """The crosses whose keys, and rows of a hashed one, mean the same in both schemas."""
    old = {cross.name: _shape(before, cross) for cross in before.crosses}
    known = known_fields(before, after)
    return frozenset(
        cross.name
        for cross in after.crosses
        if known.issuperset(cross.fields) and old.get(cross.name) == _shape(after, cross)
    )


def _meaning(field: FieldSpec) -> tuple[object, ...]:
    side = field.source if field.source in (Source.APP, Source.PAIR) else None
    return side, field.kind is Kind.CONTINUOUS, field.measure


def _shape(schema: FeatureSchema, cross: CrossSpec) -> tuple[object, ...]:
    """What a cross's keys and their rows depend on beside the values."""
    kinds = {field.name: field.kind for field in schema.fields}
    return cross.exact, None if cross.exact else cross.bits, *(kinds[name] for name in cross.fields)


def _union(past: Keys | None, counted: tuple[Keys, Keys], *, cross: CrossSpec, compact: bool) -> Keys:
    """The keys of an exact cross, ascending: those known before, and those that are new and frequent enough."""
    seen, counts = counted
    new = seen[counts >= cross.min_count]
    if past is None:
        return new
    return np.union1d(np.intersect1d(past, seen) if compact else past, new)
