"""Fit a transform to the training split: vocabularies, quantiles, then the keys of the exact crosses."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from model.crosses import Crosses
from model.data.census import population_of
from model.data.dataset import Dataset
from model.data.history import audience_of
from model.data.training_rows import TrainingRows
from model.schema import FeatureSchema
from model.transforms import Transform
from model.vocabulary import Vocabulary

Keys = npt.NDArray[np.int64]


def fit(schema: FeatureSchema, dataset: Dataset) -> Transform:
    """Learn everything the encoder needs from the training split and nothing else."""
    rows = TrainingRows(schema, dataset)
    seen = rows.seen_values()
    id_fields = (field for field in schema.fields if field.name in seen)
    vocabularies = {f.name: Vocabulary.fit(f.name, seen[f.name], min_count=f.min_count) for f in id_fields}
    quantiles = rows.quantiles()
    crosses, known = no_keys(schema, vocabularies), population_of(schema, dataset)
    transform = Transform(schema, vocabularies, quantiles, crosses, audience_of(dataset), known)
    counted = rows.keys(transform)
    kept = {c.name: _frequent(*counted[c.name], least=c.min_count) for c in schema.crosses if c.exact}
    return replace(transform, crosses=Crosses(schema, vocabularies, kept))


def no_keys(schema: FeatureSchema, vocabularies: Mapping[str, Vocabulary]) -> Crosses:
    """The crosses of a schema before any key of an exact one is known."""
    return Crosses(schema, vocabularies, {c.name: np.empty(0, dtype=np.int64) for c in schema.crosses if c.exact})


def _frequent(keys: Keys, counts: Keys, *, least: int) -> Keys:
    return keys[counts >= least]
