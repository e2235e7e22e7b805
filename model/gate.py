"""The gate's quality half: challenger and live, or popularity before there is one, on rows that neither has seen."""

import numpy as np
import polars as pl

from model.agreement import Asked
from model.checks import Holdout, overlap_check, quality_checks, shift_check
from model.data.dataset import Dataset
from model.data.examples import rows_of, trained_pairs
from model.data.queries import apps, queries
from model.holdout import groups, popularity, predicted, shelf_sides, shelves, slices
from model.precision_checks import precision_checks
from model.report import Check, GateReport, Limits, Outcome
from model.schema import FeatureSchema
from model.scorer import Scorer

__all__ = ["POPULARITY", "Check", "GateReport", "Limits", "Outcome", "judge"]

POPULARITY = "popularity"


def judge(challenger: Scorer, live: Scorer | None, dataset: Dataset, *, limits: Limits) -> list[Check]:
    """The checks of the quality half on the dataset's gate split. A refusal is a failed check, never an exception."""
    if other := _other_kinds(challenger.schema, dataset.schema):
        return [Check.failed("holdout", f"the data holds {other}", limit="the challenger's fields")]
    if rows_of(dataset, "gate").is_empty():
        return [Check.failed("holdout", "0 rows in the gate split", limit="rows of both classes")]
    if live and (other := _other_kinds(live.schema, dataset.schema)):
        reason = f"live cannot score this data, which holds {other}; popularity stands in for it"
        return [Check.skipped("live_on_holdout", reason), *judge(challenger, None, dataset, limits=limits)]
    holdout = _holdout(challenger, live, dataset)
    checks = quality_checks(holdout, limits)
    if checks[0].outcome != "passed":
        return checks
    if live:
        checks += [shift_check(holdout, limits), _overlap(challenger, live, dataset, limits=limits)]
    return checks + precision_checks(challenger, _asked(challenger, dataset, seed=limits.seed), limits=limits)


def _holdout(challenger: Scorer, live: Scorer | None, dataset: Dataset) -> Holdout:
    rows = rows_of(dataset, "gate")
    return Holdout(
        label=rows["label"].cast(pl.Float64).to_numpy(),
        challenger=predicted(challenger, dataset, rows),
        baseline=popularity(dataset, rows) if live is None else predicted(live, dataset, rows),
        group=groups(dataset.schema, rows),
        slices=slices(dataset.schema, trained_pairs(dataset), rows),
    )


def _overlap(challenger: Scorer, live: Scorer, dataset: Dataset, *, limits: Limits) -> Check:
    rows = shelves(dataset, rows_of(dataset, "gate"), seed=limits.seed)
    first, second = (predicted(scorer, dataset, rows) for scorer in (challenger, live))
    return overlap_check(rows["_shelf"].cast(pl.Int64).to_numpy(), limits, challenger=first, live=second)


def _asked(challenger: Scorer, dataset: Dataset, *, seed: int) -> list[Asked]:
    """The requests of the shelves that `_overlap` ranks, as they would come in."""
    asking, shown = shelf_sides(dataset, rows_of(dataset, "gate"), seed=seed)
    table = challenger.table(tuple(apps(shown, dataset.schema)))
    return [Asked(query, table, np.arange(len(shown))) for query in queries(dataset, asking)]


def _other_kinds(mine: FeatureSchema, data: FeatureSchema) -> str:
    """The fields that the data holds in another kind than a scorer reads them in, as words."""
    kinds = {field.name: field.kind for field in mine.fields}
    other = [field for field in data.fields if kinds.get(field.name, field.kind) is not field.kind]
    return ", ".join(f"{field.name!r} as {field.kind}" for field in other)
