"""A loaded bundle, ready to score: the serving half of the split network."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from model.app_columns import AppSide
from model.app_table import AppTable
from model.batch import Side
from model.bundle import Bundle
from model.layers import Part
from model.population import population_fields
from model.query import App, Query, categorical, continuous, multi
from model.schema import FeatureSchema, FieldSpec, Kind, PairStatistic, Source
from model.transforms import Transform
from model.vocabulary import MISSING_ID, NULL_ID, UNKNOWN_ID
from model.zoo import Net, build

STATUS = {UNKNOWN_ID: "unknown", MISSING_ID: "missing", NULL_ID: "null"}
CANONICAL: Mapping[Kind, Callable[[object], object]] = {
    Kind.CATEGORICAL: categorical,
    Kind.MULTI: multi,
    Kind.CONTINUOUS: continuous,
}


@dataclass(frozen=True)
class Scorer:
    """An immutable net with its encoder. log_rate: ln of the sampling rate of negatives, added to every logit."""

    version: str
    schema: FeatureSchema
    transform: Transform
    net: Net
    log_rate: float

    @classmethod
    def of(cls, bundle: Bundle) -> "Scorer":
        """Build the net and load its weights. Raises RuntimeError where they do not fit the architecture."""
        manifest = bundle.manifest
        with torch.device("meta"):  # no number is drawn, or held twice, that the bundle's would replace
            net = build(manifest.architecture, manifest.params, bundle.transform.sizes)
        net.load_state_dict({name: tensor.clone() for name, tensor in bundle.weights.items()}, assign=True)
        net.requires_grad_(False).eval()
        return cls(manifest.version, bundle.schema, bundle.transform, net, math.log(manifest.sampling_rate))

    @cached_property
    def measured(self) -> tuple[FieldSpec, ...]:
        """The pair fields that tell something of all users."""
        return population_fields(self.schema)

    def measures(self, query: Query, ids: Sequence[str]) -> list[dict[str, float]]:
        """What each of the apps is scored with of all users, by `FieldSpec.measure`: N of them."""
        if not self.measured:
            return [{} for _ in ids]
        uses = np.array([query.history.get(app_id, 0) for app_id in ids], dtype=np.float64)
        known = self.transform.population
        found = known.measured(self.measured, query, apps=known.ordinals_of(ids), uses=uses)
        columns = [values.tolist() for values in found.values()]
        return [dict(zip(found, values, strict=True)) for values in zip(*columns, strict=True)]

    @property
    def app_side(self) -> AppSide:
        """How this net's tables encode their apps."""
        known = self.transform.population.ordinals if self.measured else None
        return AppSide(self._encoded, self.net.halved, self.transform.audience, known)

    def table(self, apps: Sequence[App], *, capacity: int = 0) -> AppTable:
        """The app side of a catalogue, computed once; `capacity` rows are set aside."""
        table = AppTable(self.app_side, capacity=max(capacity, len(apps)))
        table.put(apps)
        return table

    @torch.inference_mode()
    def score(self, query: Query, table: AppTable, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """(N,) probabilities of the apps at `rows` of the table.

        Negative sampling at rate w leaves odds 1/w times too high; they are multiplied by w here
        (He et al. 2014, Practical Lessons from Predicting Clicks on Ads at Facebook, section 6.3).
        """
        if not len(rows):
            return np.empty(0)
        request = self.request_side(query)
        app, ids = table.gather(torch.from_numpy(rows), exact=True), table.ids
        statistics = pair_statistics(query, [ids[row] for row in rows.tolist()], self.transform)
        pair = self.transform.pairs(request, app.side, statistics)
        logits = self.net.combine(self.net.request_part(request), app.part, pair)
        return torch.sigmoid(logits.double() + self.log_rate).numpy()

    def observe(self, query: Query) -> dict[str, str]:
        """The user and context fields whose value is missing, null or unknown, and which of the three."""
        request = self.request_side(query)
        statuses = {}
        for place, field in enumerate(self.schema.of(Source.USER, Source.CONTEXT, kind=Kind.CATEGORICAL)):
            if (status := STATUS.get(int(request.ids[0, place]))) is not None:
                statuses[field.name] = status
        values = {**query.user, **query.context}
        for field in self.schema.of(Source.USER, Source.CONTEXT, kind=Kind.CONTINUOUS):
            if values.get(field.name) is None:
                statuses[field.name] = "null" if field.name in values else "missing"
        return statuses

    def request_side(self, query: Query) -> Side:
        """The request's side, one row. Raises ValueRefused where a value does not fit its field."""
        values: dict[str, Any] = {**query.user, **query.context, "user_id": query.user_id}
        for field in self.schema.of(Source.HISTORY, kind=Kind.MULTI):
            values[field.name] = list(islice(query.history, field.max_values))
        return self.transform.requests(_columns(self.schema.fields, [values]), 1)

    @torch.inference_mode()
    def _encoded(self, apps: Sequence[App]) -> tuple[Side, Part]:
        rows = [{**app.features, "app_id": app.id} for app in apps]
        fields = [field for field in self.schema.fields if field.source is Source.APP]
        side = self.transform.apps(_columns(fields, rows), len(apps))
        return side, self.net.app_part(side)


def _columns(fields: Sequence[FieldSpec], rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Canonical columns of raw values; a value that is absent stays None, an explicit null is told apart."""
    return {
        field.name: [CANONICAL[field.kind](row[field.name]) if field.name in row else None for row in rows]
        for field in fields
    }


def pair_statistics(query: Query, ids: Sequence[str], transform: Transform) -> Mapping[str, npt.NDArray[np.float64]]:
    """(N,) each, by `FieldSpec.measure`, of the candidates and who asks: everything that a pair field may be `of`."""
    used, known = query.history.get, transform.audience.get
    uses = np.fromiter((used(app_id, 0) for app_id in ids), dtype=np.float64, count=len(ids))
    users = np.fromiter((known(app_id, 0) for app_id in ids), dtype=np.float64, count=len(ids))
    fields, population = population_fields(transform.schema), transform.population
    measured = population.measured(fields, query, apps=population.ordinals_of(ids), uses=uses) if fields else {}
    return {PairStatistic.USES: uses, PairStatistic.OTHERS: np.maximum(users - (uses > 0), 0), **measured}
