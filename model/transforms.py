"""The one encoder of training and serving: raw values to sides and pairs, by a schema and fitted vocabularies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from model.batch import Bag, FieldSize, Pair, Side
from model.blocks import NamedSide, NamedSizes
from model.crosses import Crosses
from model.population import NOBODY, Population
from model.schema import FeatureSchema, FieldSpec, Kind, Source
from model.vocabulary import MISSING_ID, Floats, Ids, Quantiles, Vocabulary

Column = Sequence[Any] | Floats | pl.Series
REQUEST_SOURCES = (Source.USER, Source.CONTEXT, Source.HISTORY)


@dataclass(frozen=True)
class Transform:
    """A schema with what was fitted to it: a vocabulary per id field, quantiles per continuous field, and crosses.

    audience: how many users each app had when the log ended, what PairStatistic.OTHERS is served from; population: what
    IN_CONTEXT and SIMILAR are served from.
    """

    schema: FeatureSchema
    vocabularies: Mapping[str, Vocabulary]
    quantiles: Mapping[str, Quantiles]
    crosses: Crosses
    audience: Mapping[str, int]
    population: Population = NOBODY

    def requests(self, columns: Mapping[str, Column], count: int) -> Side:
        """The request side of `count` rows from canonical columns by field name; an absent column is missing."""
        return self._side(columns, count, REQUEST_SOURCES)

    def apps(self, columns: Mapping[str, Column], count: int) -> Side:
        """The app side of `count` apps from canonical columns by field name; an absent column is missing."""
        return self._side(columns, count, (Source.APP,))

    def pairs(self, request: Side, app: Side, statistics: Mapping[str, Floats]) -> Pair:
        """The pair of N candidates and either one request or N requests; statistics: (N,) by `FieldSpec.measure`."""
        fields = self.schema.of(Source.PAIR, kind=Kind.CONTINUOUS)
        columns: dict[str, Column] = {field.name: statistics[field.measure] for field in fields if field.measure}
        dense = self._dense(columns, len(app), fields)
        return Pair(dense, self.crosses.between(request, app))

    @cached_property
    def sizes(self) -> NamedSizes:
        """What a network needs to size its parameters, and whose each part of them is."""
        pair = self._names((Source.PAIR,))
        return NamedSizes(
            request=self._side_sizes(REQUEST_SOURCES),
            app=self._side_sizes((Source.APP,)),
            pair_dense=len(pair),
            crosses=self.crosses.table_size,
            pair_numbers=pair,
            cross_rows=tuple((table.spec.name, table.size) for table in self.crosses.tables),
        )

    def to_state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """Everything fitted, as JSON values and arrays; `from_state` gives back an equal transform."""
        texts = {name: list(vocabulary.values) for name, vocabulary in self.vocabularies.items()}
        bounds = {name: list(quantiles.boundaries) for name, quantiles in self.quantiles.items()}
        arrays = {f"counts.{name}": vocabulary.counts for name, vocabulary in self.vocabularies.items()}
        state = {"vocabularies": texts, "quantiles": bounds, "audience": dict(self.audience)}
        told, tables = self.population.to_state()
        return state | {"population": told}, arrays | self.crosses.to_arrays() | tables

    @classmethod
    def from_state(
        cls, schema: FeatureSchema, texts: Mapping[str, Any], arrays: Mapping[str, npt.NDArray[Any]]
    ) -> "Transform":
        """Undo `to_state`. Raises KeyError or ValueError where the state does not fit the schema."""
        vocabularies = {
            name: Vocabulary(name, tuple(values), np.asarray(arrays[f"counts.{name}"], dtype=np.int64))
            for name, values in texts["vocabularies"].items()
        }
        quantiles = {name: Quantiles(tuple(bounds)) for name, bounds in texts["quantiles"].items()}
        crosses = Crosses.from_arrays(schema, vocabularies, arrays)
        known = Population.from_state(texts["population"], arrays) if "population" in texts else NOBODY
        return cls(schema, vocabularies, quantiles, crosses, texts["audience"], known)

    def _side(self, columns: Mapping[str, Column], count: int, sources: tuple[Source, ...]) -> Side:
        categorical = self.schema.of(*sources, kind=Kind.CATEGORICAL)
        ids = np.empty((count, len(categorical)), dtype=np.int64)
        for place, field in enumerate(categorical):
            ids[:, place] = self._ids(columns.get(field.name), count, self.vocabularies[field.name])
        bags = tuple(self._bag(columns.get(f.name), count, f) for f in self.schema.of(*sources, kind=Kind.MULTI))
        dense = self._dense(columns, count, self.schema.of(*sources, kind=Kind.CONTINUOUS))
        side = Side(torch.from_numpy(ids), dense, bags)
        return self.crosses.within(side, request=Source.APP not in sources)

    def _ids(self, column: Column | None, count: int, vocabulary: Vocabulary) -> Ids:
        if column is None:
            return np.full(count, MISSING_ID, dtype=np.int64)
        if not isinstance(column, pl.Series) or column.is_empty():
            return vocabulary.ids(column)
        values = column.unique()
        return column.replace_strict(values, vocabulary.ids(values), return_dtype=pl.Int64).to_numpy(writable=True)

    def _bag(self, column: Column | None, count: int, field: FieldSpec) -> Bag:
        vocabulary = self.vocabularies[field.name]
        if isinstance(column, pl.Series):
            lists = column.fill_null(pl.Series([[None]], dtype=column.dtype)).list.head(field.max_values)
            flat = lists.explode(empty_as_null=False)
            return _bag_of(self._ids(flat, len(flat), vocabulary), lists.list.len().to_numpy())
        lists_of = [[None]] * count if column is None else [[None] if row is None else row for row in column]
        capped = [row[: field.max_values] for row in lists_of]
        return _bag_of(vocabulary.ids(value for row in capped for value in row), [len(row) for row in capped])

    def _dense(self, columns: Mapping[str, Column], count: int, fields: Sequence[FieldSpec]) -> Tensor:
        dense = np.full((count, len(fields)), 0.5, dtype=np.float32)
        for place, field in enumerate(fields):
            if (column := columns.get(field.name)) is not None:
                dense[:, place] = self.quantiles[field.name].normalise(_floats(column))
        return torch.from_numpy(dense)

    def _side_sizes(self, sources: tuple[Source, ...]) -> NamedSide:
        numbers = self._names(sources)
        return NamedSide(
            tuple(self._size(field) for field in self.schema.of(*sources, kind=Kind.CATEGORICAL)),
            tuple(self._size(field) for field in self.schema.of(*sources, kind=Kind.MULTI)),
            dense=len(numbers),
            numbers=numbers,
        )

    def _names(self, sources: tuple[Source, ...]) -> tuple[str, ...]:
        """The continuous fields, in order."""
        return tuple(field.name for field in self.schema.of(*sources, kind=Kind.CONTINUOUS))

    def _size(self, field: FieldSpec) -> FieldSize:
        return FieldSize(field.name, self.vocabularies[field.name].size, field.dim)


def _bag_of(ids: Ids, lengths: Sequence[int] | Ids) -> Bag:
    ends = np.cumsum(np.asarray(lengths, dtype=np.int64))
    return Bag(torch.from_numpy(ids), torch.from_numpy(ends - np.asarray(lengths, dtype=np.int64)))


def _floats(column: Column) -> Floats:
    if isinstance(column, pl.Series):
        return column.cast(pl.Float64).fill_null(np.nan).to_numpy()
    return np.array([np.nan if value is None else value for value in column], dtype=np.float64)
