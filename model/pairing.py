"""The continuous values of many candidates beside one request: those of `Transform.pairs`, off a table's rows."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.app_columns import Gathered
from model.app_table import AppTable
from model.population import population_fields
from model.query import Query
from model.schema import Kind, PairStatistic, Source
from model.transforms import Transform

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class PairNumbers:
    """The normalised pair statistics of a transform."""

    def __init__(self, transform: Transform) -> None:
        fields = transform.schema.of(Source.PAIR, kind=Kind.CONTINUOUS)
        self._fields = [(one.measure, transform.quantiles[one.name]) for one in fields if one.measure]
        self._measured = population_fields(transform.schema)
        self._population = transform.population

    def __len__(self) -> int:
        return len(self._fields)

    def of(self, asked: Sequence[tuple[Query, Floats]], apps: Gathered) -> Tensor:
        """(N, D) float32 of the apps of several requests in turn: of each its query and its apps' uses (n,)."""
        uses = np.concatenate([used for _, used in asked])
        others = np.maximum(apps.others.numpy() - (uses > 0), 0)
        statistics = {PairStatistic.USES: uses, PairStatistic.OTHERS: others, **self._of_all(asked, apps)}
        dense = np.empty((len(uses), len(self._fields)), dtype=np.float32)
        for place, (measure, quantiles) in enumerate(self._fields):
            dense[:, place] = quantiles.normalise(statistics[measure])
        return torch.from_numpy(dense)

    def _of_all(self, asked: Sequence[tuple[Query, Floats]], apps: Gathered) -> dict[str, Floats]:
        """(N,) each, the measures of all users."""
        if not self._measured or apps.ordinals is None:
            return {}
        parts = np.split(apps.ordinals.numpy(), np.cumsum([len(used) for _, used in asked])[:-1])
        found = [
            self._population.measured(self._measured, query, apps=part, uses=used)
            for (query, used), part in zip(asked, parts, strict=True)
        ]
        return {name: np.concatenate([one[name] for one in found]) for name in found[0]}


def uses_of(history: Mapping[str, int], table: AppTable, rows: Rows) -> Floats:
    """(N,) how often each of the apps at `rows` (N,) was used."""
    known = table.rows_of(list(history))
    if (known >= table.base_count).any():  # an app put since has older rows too, which only its id tells
        used, ids = history.get, table.ids
        return np.fromiter((used(ids[row], 0) for row in rows.tolist()), dtype=np.float64, count=len(rows))
    order = np.argsort(known)
    places = order[np.searchsorted(known, rows, sorter=order).clip(max=len(order) - 1)] if len(order) else order
    counts = np.fromiter(history.values(), dtype=np.float64, count=len(order))
    return np.where(known[places] == rows, counts[places], 0.0) if len(order) else np.zeros(len(rows))
