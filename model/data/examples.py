"""Rows of a dataset encoded once and cut into batches: what training and evaluation run over."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from model.batch import Batch, Side
from model.data.dataset import Dataset
from model.data.history import History, history_of
from model.population import population_fields
from model.schema import FeatureSchema, Kind, Source
from model.transforms import Transform


@dataclass(frozen=True)
class Examples:
    """B encoded rows.

    requests: (B,); apps: the sides of all apps and revisions (A,), app_rows: (B,) each row's app among them;
    position: (B,) int64, from 1, 0 where it is not known.
    """

    transform: Transform
    requests: Side
    apps: Side
    app_rows: Tensor
    statistics: Mapping[str, npt.NDArray[np.float64]]
    label: Tensor
    weight: Tensor
    position: Tensor

    def __len__(self) -> int:
        return self.label.shape[0]

    def batch(self, rows: Tensor) -> Batch:
        """The examples at `rows` (R,) int64, crosses and all."""
        request = self.transform.crosses.within(self.requests.select(rows), request=True)
        app = self.apps.select(self.app_rows[rows])
        places = rows.numpy()
        pair = self.transform.pairs(request, app, {name: values[places] for name, values in self.statistics.items()})
        return Batch(request, app, pair, self.label[rows], self.weight[rows], self.position[rows])


def history_field(schema: FeatureSchema) -> tuple[str, int] | None:
    """The name of the schema's history field and the most apps it holds, or None where there is none."""
    fields = schema.of(Source.HISTORY, kind=Kind.MULTI)
    return (fields[0].name, fields[0].max_values) if fields else None


def rows_of(dataset: Dataset, split: str) -> pl.DataFrame:
    """The examples of one split, in order."""
    return dataset.collect(dataset.scan().filter(pl.col("split") == split))


def trained_pairs(dataset: Dataset) -> pl.DataFrame:
    """user_id and app_id of the training split, each pair once, since all its rows need not fit into memory."""
    return dataset.collect(dataset.scan().filter(pl.col("split") == "train").select("user_id", "app_id").unique())


def history_for(schema: FeatureSchema, dataset: Dataset, rows: pl.DataFrame) -> History:
    """What each of `rows` knows, as wide as the history field of `schema`, which need not be the dataset's."""
    field = history_field(schema)
    fields = population_fields(schema)
    return history_of(dataset, rows, max_values=field[1] if field else 1, fields=fields)


def encode(transform: Transform, dataset: Dataset, rows: pl.DataFrame) -> Examples:
    """Encode `rows` of `dataset`; its apps and their revisions are encoded once and pointed at."""
    return RowEncoder(transform, dataset).examples(rows)


@dataclass(frozen=True)
class RowEncoder:
    """Encodes rows of one dataset by one transform, its apps once for all of them."""

    transform: Transform
    dataset: Dataset

    @cached_property
    def apps(self) -> Side:
        """The sides of all apps, and of their revisions after them."""
        scored = self.dataset.scored_apps
        return self.transform.apps({name: scored[name] for name in scored.columns}, len(scored))

    def examples(self, rows: pl.DataFrame, history: History | None = None) -> Examples:
        """The rows encoded. history: what they know, where that is known already."""
        transform, dataset = self.transform, self.dataset
        known = history_for(transform.schema, dataset, rows) if history is None else history
        columns: dict[str, pl.Series] = {name: rows[name] for name in rows.columns}
        if field := history_field(transform.schema):
            columns[field[0]] = known.installed
        label = torch.from_numpy(rows["label"].cast(pl.Float32).to_numpy().copy())
        return Examples(
            transform=transform,
            requests=replace(transform.requests(columns, len(rows)), crosses=(), keys=()),
            apps=self.apps,
            app_rows=torch.from_numpy(dataset.app_rows(rows).to_numpy().copy()),
            statistics=known.statistics,
            label=label,
            weight=torch.ones_like(label),
            position=_positions(rows),
        )


def _positions(rows: pl.DataFrame) -> Tensor:
    """(B,) int64: each row's place in its list, 0 where the log does not tell."""
    if "position" not in rows.columns:
        return torch.zeros(len(rows), dtype=torch.int64)
    return torch.from_numpy(rows["position"].cast(pl.Int64).fill_null(0).to_numpy().copy())
