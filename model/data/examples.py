"""Rows of a dataset encoded once and cut into batches: what training and evaluation run over."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch import Tensor

from model.batch import Batch, Side
from model.data.dataset import Dataset
from model.data.history import History, history_of
from model.schema import FeatureSchema, Kind, PairStatistic, Source
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
    statistics: Mapping[PairStatistic, npt.NDArray[np.float64]]
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
    return dataset.examples.filter(pl.col("split") == split)


def history_for(schema: FeatureSchema, dataset: Dataset, rows: pl.DataFrame) -> History:
    """What each of `rows` knows, as wide as the history field of `schema`, which need not be the dataset's."""
    field = history_field(schema)
    return history_of(dataset, rows, max_values=field[1] if field else 1)


def encode(transform: Transform, dataset: Dataset, rows: pl.DataFrame) -> Examples:
    """Encode `rows` of `dataset`; its apps and their revisions are encoded once and pointed at."""
    return encode_with(transform, dataset, rows, history=history_for(transform.schema, dataset, rows))


def encode_with(transform: Transform, dataset: Dataset, rows: pl.DataFrame, *, history: History) -> Examples:
    """Encode `rows` whose history is already known."""
    columns: dict[str, pl.Series] = {name: rows[name] for name in rows.columns}
    if field := history_field(transform.schema):
        columns[field[0]] = history.installed
    requests = replace(transform.requests(columns, len(rows)), crosses=(), keys=())
    scored = dataset.scored_apps
    apps = transform.apps({name: scored[name] for name in scored.columns}, len(scored))
    label = torch.from_numpy(rows["label"].cast(pl.Float32).to_numpy().copy())
    statistics = {PairStatistic.USES: history.uses, PairStatistic.OTHERS: history.others}
    return Examples(
        transform=transform,
        requests=requests,
        apps=apps,
        app_rows=torch.from_numpy(dataset.app_rows(rows).to_numpy().copy()),
        statistics=statistics,
        label=label,
        weight=torch.ones_like(label),
        position=_positions(rows),
    )


def _positions(rows: pl.DataFrame) -> Tensor:
    """(B,) int64: each row's place in its list, 0 where the log does not tell."""
    if "position" not in rows.columns:
        return torch.zeros(len(rows), dtype=torch.int64)
    return torch.from_numpy(rows["position"].cast(pl.Int64).fill_null(0).to_numpy().copy())
