"""The gate's quality half: challenger and live, or popularity before there is one, on rows that neither has seen."""

import polars as pl

from model.checks import Holdout, quality_checks, shift_checks
from model.data.dataset import Dataset
from model.data.examples import rows_of
from model.holdout import groups, popularity, predicted, slices
from model.report import Check, GateReport, Limits, Outcome
from model.schema import FeatureSchema
from model.scorer import Scorer

__all__ = ["POPULARITY", "Check", "GateReport", "Limits", "Outcome", "judge", "request_contract"]

POPULARITY = "popularity"


def judge(challenger: Scorer, live: Scorer | None, dataset: Dataset, *, limits: Limits) -> list[Check]:
    """The checks of the quality half on the dataset's gate split. A refusal is a failed check, never an exception."""
    rows = rows_of(dataset, "gate")
    if other := _other_kinds(challenger.schema, dataset.schema):
        return [Check.failed("holdout", f"the data holds {other}", limit="the challenger's fields")]
    if rows.is_empty():
        return [Check.failed("holdout", "0 rows in the gate split", limit="rows of both classes")]
    if live is None:
        skipped = [Check.skipped(name, "no version is live") for name in ("score_shift", "top_10_overlap")]
        return [*quality_checks(_holdout(challenger, None, dataset), limits), *skipped]
    contract = request_contract(challenger.schema, live.schema)
    if other := _other_kinds(live.schema, dataset.schema):
        reason = f"live cannot score this data, which holds {other}; judged against popularity"
        quality = quality_checks(_holdout(challenger, None, dataset), limits)
        return [contract, Check.skipped("live_on_holdout", reason), *quality]
    holdout = _holdout(challenger, live, dataset)
    quality = quality_checks(holdout, limits)
    shifts = shift_checks(holdout, limits) if quality[0].outcome == "passed" else []
    return [contract, *quality, *shifts]


def request_contract(challenger: FeatureSchema, live: FeatureSchema) -> Check:
    """Whether every request that live's clients send would be accepted."""
    reasons = challenger.incompatibilities(live)
    if reasons:
        return Check.failed("request_contract", "; ".join(reasons), limit="what live's clients send")
    return Check("request_contract", "passed", "compatible", "what live's clients send", "")


def _holdout(challenger: Scorer, live: Scorer | None, dataset: Dataset) -> Holdout:
    rows = rows_of(dataset, "gate")
    return Holdout(
        label=rows["label"].cast(pl.Float64).to_numpy(),
        challenger=predicted(challenger, dataset, rows),
        baseline=popularity(dataset, rows) if live is None else predicted(live, dataset, rows),
        group=groups(dataset.schema, rows),
        slices=slices(dataset.schema, rows_of(dataset, "train"), rows),
    )


def _other_kinds(mine: FeatureSchema, data: FeatureSchema) -> str:
    """The fields that the data holds in another kind than a scorer reads them in, as words."""
    kinds = {field.name: field.kind for field in mine.fields}
    return ", ".join(
        f"{field.name!r} as {field.kind}"
        for field in data.fields
        if kinds.get(field.name, field.kind) is not field.kind
    )
