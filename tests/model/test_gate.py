"""The gate's quality half on real nets, and its report."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from msgspec import DecodeError
from pydantic import ValidationError

from model.bundle import Bundle
from model.data.dataset import HISTORY, LOGGED, Dataset, read, write
from model.data.examples import rows_of
from model.data.history import history_of
from model.data.stored import Rows
from model.gate import Check, GateReport, Limits, judge
from model.holdout import groups, popularity, predicted, shelves, slices
from model.metrics import auc
from model.schema import FeatureSchema
from model.scorer import Scorer
from tests.model.stores import APP_COUNT, SCHEMA, SHELF, bundle_of, store

LIMITS = Limits()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return store()


@pytest.fixture(scope="module")
def live(dataset: Dataset) -> Scorer:
    return Scorer.of(bundle_of(dataset))


def outcomes(checks: list[Check]) -> dict[str, str]:
    return {check.name: check.outcome for check in checks}


def with_weights(bundle: Bundle, value: float) -> Scorer:
    """A net whose every weight has one value."""
    return Scorer.of(replace(bundle, weights={name: torch.full_like(w, value) for name, w in bundle.weights.items()}))


def test_a_challenger_equal_to_live_passes(dataset: Dataset, live: Scorer) -> None:
    found = outcomes(judge(live, live, dataset, limits=LIMITS))
    assert set(found.values()) == {"passed", "skipped"}
    assert found["slice[new_apps]"] == "skipped"
    assert {"auc[new_users]", "auc[unseen_pairs]", "auc[country=PT]", "score_shift", "top_10_overlap"} <= {
        name for name, outcome in found.items() if outcome == "passed"
    }


@pytest.mark.parametrize("first", [True, False])
def test_judging_reads_no_more_of_the_training_rows_than_it_counts(
    dataset: Dataset, live: Scorer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, first: bool
) -> None:
    against = None if first else live
    expected = judge(live, against, dataset, limits=LIMITS)
    write(dataset, tmp_path / "data")

    def whole(*_: object) -> None:
        raise AssertionError("all rows are read into memory")

    monkeypatch.setattr(Rows, "__get__", whole)

    assert judge(live, against, read(tmp_path / "data"), limits=LIMITS) == expected


def test_a_challenger_of_lower_auc_is_refused_naming_auc(dataset: Dataset, live: Scorer) -> None:
    worse = Scorer.of(bundle_of(dataset, noise=0.53))
    rows = rows_of(dataset, "gate")
    lost = [auc(rows["label"], predicted(scorer, dataset, rows)) for scorer in (live, worse)]
    assert lost[0] - lost[1] == pytest.approx(0.02, abs=0.004)
    assert outcomes(judge(worse, live, dataset, limits=LIMITS))["auc"] == "failed"


def test_the_first_version_is_judged_against_popularity(dataset: Dataset, live: Scorer) -> None:
    found = outcomes(judge(live, None, dataset, limits=LIMITS))
    assert {found[name] for name in ("auc", "log_loss", "calibration", "ndcg_at_10")} == {"passed"}
    assert "score_shift" not in found


def test_a_net_that_knows_nothing_does_not_pass_against_popularity(dataset: Dataset) -> None:
    nothing = with_weights(bundle_of(dataset), 0.0)
    assert outcomes(judge(nothing, None, dataset, limits=LIMITS))["auc"] == "failed"


def test_weights_that_are_not_numbers_are_a_failed_check_and_no_exception(dataset: Dataset, live: Scorer) -> None:
    broken = with_weights(bundle_of(dataset), float("nan"))
    (check,) = judge(broken, live, dataset, limits=LIMITS)
    assert (check.name, check.outcome) == ("finite_scores", "failed")


def test_an_empty_gate_split_is_a_failed_check(dataset: Dataset, live: Scorer) -> None:
    untold = replace(dataset, examples=dataset.examples.filter(pl.col("split") != "gate"))
    (check,) = judge(live, None, untold, limits=LIMITS)
    assert (check.name, check.outcome, check.observed) == ("holdout", "failed", "0 rows in the gate split")


def test_judging_twice_gives_the_same_checks(dataset: Dataset, live: Scorer) -> None:
    other = Scorer.of(bundle_of(dataset, noise=0.2))
    assert judge(other, live, dataset, limits=LIMITS) == judge(other, live, dataset, limits=LIMITS)


def with_multi_country() -> FeatureSchema:
    fields = [{**f.model_dump(), "kind": "multi"} if f.name == "country" else f.model_dump() for f in SCHEMA.fields]
    return FeatureSchema.model_validate({"fields": fields})


def test_popularity_stands_in_for_a_live_version_that_cannot_score_the_data(dataset: Dataset, live: Scorer) -> None:
    old = replace(live, schema=with_multi_country())
    checks = judge(live, old, dataset, limits=LIMITS)
    assert (checks[0].name, checks[0].outcome) == ("live_on_holdout", "skipped")
    assert "'country' as categorical" in checks[0].detail
    assert outcomes(checks)["auc"] == "passed"


def test_a_challenger_of_another_schema_than_the_data_is_refused_by_name(dataset: Dataset, live: Scorer) -> None:
    (check,) = judge(replace(live, schema=with_multi_country()), live, dataset, limits=LIMITS)
    assert (check.name, check.outcome) == ("holdout", "failed")


def test_predictions_are_turned_back_to_the_datas_own_sampling(dataset: Dataset, live: Scorer) -> None:
    rows = rows_of(dataset, "gate")
    sampled = replace(dataset, facts=replace(dataset.facts, sampling_rate=0.25))
    corrected = replace(live, log_rate=float(np.log(0.25)))
    assert predicted(corrected, sampled, rows) == pytest.approx(predicted(live, dataset, rows))
    assert (predicted(live, sampled, rows) > predicted(live, dataset, rows)).all()


def test_popularity_is_the_smoothed_share_of_positives_in_training(dataset: Dataset) -> None:
    train = rows_of(dataset, "train")
    mine = train.filter(pl.col("app_id") == "com.app3")["label"].to_numpy()
    rate = float(train["label"].to_numpy().mean())
    asked = pl.DataFrame({"app_id": ["com.app3", "com.unheard"]})
    expected = [(mine.sum() + 10 * rate) / (len(mine) + 10), rate]
    assert popularity(dataset, asked) == pytest.approx(expected)


def test_rows_are_grouped_by_request_and_without_requests_by_user_and_context() -> None:
    rows = pl.DataFrame(
        {"user_id": ["u", "u", "u", "v"], "country": ["PT", "PT", None, "PT"], "request_id": ["a", "b", "b", "c"]}
    )
    by_request, by_context = groups(SCHEMA, rows), groups(SCHEMA, rows.drop("request_id"))
    assert by_request[1] == by_request[2] != by_request[0]
    assert by_context[0] == by_context[1]
    assert len(set(by_context.tolist())) == 3


def test_slices_are_what_training_never_saw_and_the_countries() -> None:
    train = pl.DataFrame({"user_id": ["u", "v"], "app_id": ["a", "b"], "country": ["PT", "GR"]})
    rows = pl.DataFrame({"user_id": ["u", "u", "w"], "app_id": ["a", "b", "c"], "country": ["PT", "GR", None]})
    found = {name: mask.tolist() for name, mask in slices(SCHEMA, train, rows).items()}
    assert found == {
        "new_users": [False, False, True],
        "new_apps": [False, False, True],
        "unseen_pairs": [False, True, True],
        "country=PT": [True, False, False],
        "country=GR": [False, True, False],
    }


def test_a_shelf_is_the_available_catalogue_for_one_held_out_row(dataset: Dataset) -> None:
    rows = rows_of(dataset, "gate").head(SHELF)
    fewer = replace(dataset, apps=dataset.apps.with_columns(available=pl.col("app_id") != "com.app0"))
    shelf = shelves(fewer, rows, seed=0)
    assert shelf.group_by("_shelf").len()["len"].to_list() == [APP_COUNT - 1] * SHELF
    assert "com.app0" not in shelf["app_id"]


def test_a_shelf_keeps_its_users_logged_history_and_nothing_that_was_logged_of_an_app(dataset: Dataset) -> None:
    had = pl.lit([{"app_id": "com.app1", "count": 3}], dtype=HISTORY).alias("history")
    of_an_app = [pl.lit(9, LOGGED[name]).alias(name) for name in ("uses", "others", "app_revision")]
    rows = rows_of(dataset, "gate").head(SHELF).with_columns(had, *of_an_app)
    shelf = shelves(dataset, rows, seed=0)
    known = history_of(dataset, shelf, max_values=5)
    assert dict(zip(shelf["app_id"], known.uses, strict=True))["com.app1"] == 3
    assert known.uses.sum() == 3 * SHELF
    assert known.installed.to_list() == [["com.app1"]] * len(shelf)
    assert not set(shelf.columns) & {"uses", "others", "app_revision"}


def test_a_report_reads_back_as_it_was_written() -> None:
    checks = (
        Check.at_least("auc", -0.123456789, limit=-0.002, detail="why"),
        Check.at_most("golden_scores", float("nan"), limit=1e-5, detail=""),
        Check.skipped("slice[new_apps]", "3 rows"),
    )
    report = GateReport("20261120T194846Z-1a2b3c", "popularity", "2026-11-20T19:48:46Z", checks)
    assert GateReport.from_json(report.to_json()) == report
    assert [(check.observed, check.outcome) for check in checks] == [
        (-0.123457, "failed"),
        ("nan", "failed"),
        (None, "skipped"),
    ]
    with pytest.raises(DecodeError):
        GateReport.from_json('{"version": 1}')


def test_a_report_passes_when_nothing_failed_and_something_passed() -> None:
    passed, skipped = Check.at_most("a", 0, limit=1, detail=""), Check.skipped("b", "")
    failed = Check.failed("c", "broken", limit="whole")

    def report(*checks: Check) -> GateReport:
        return GateReport("v", "live", "now", checks)

    assert report(passed, skipped).passed
    assert not report(skipped).passed
    assert not report(passed, failed).passed
    assert report(passed, failed).failures == (failed,)


def test_limits_refuse_what_they_do_not_know_and_describe_each_of_their_fields() -> None:
    with pytest.raises(ValidationError):
        Limits.model_validate({"auc_margn": 0.1})
    assert all(field.description for field in Limits.model_fields.values())
