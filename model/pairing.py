"""The continuous values of many candidates beside one request: those of `Transform.pairs`, off a table's rows."""

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.app_table import AppTable
from model.schema import Kind, PairStatistic, Source
from model.transforms import Transform

Floats = npt.NDArray[np.float64]
Rows = npt.NDArray[np.int64]


class PairNumbers:
    """The normalised pair statistics of a transform."""

    def __init__(self, transform: Transform) -> None:
        fields = transform.schema.of(Source.PAIR, kind=Kind.CONTINUOUS)
        self._fields = [(one.of, transform.quantiles[one.name]) for one in fields if one.of]

    def __len__(self) -> int:
        return len(self._fields)

    def of(self, uses: Floats, others: Floats) -> Tensor:
        """(N, D) float32 of apps that the user used `uses` (N,) times, and that `others` (N,) users have."""
        statistics = {PairStatistic.USES: uses, PairStatistic.OTHERS: np.maximum(others - (uses > 0), 0)}
        dense = np.empty((len(uses), len(self._fields)), dtype=np.float32)
        for place, (statistic, quantiles) in enumerate(self._fields):
            dense[:, place] = quantiles.normalise(statistics[statistic])
        return torch.from_numpy(dense)


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
