"""The quality half of the gate on plain arrays."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from model.checks import Holdout, overlap_check, quality_checks, shift_check
from model.metrics import auc
from model.report import Check, Limits

Floats = npt.NDArray[np.float64]
ROWS, GROUP_SIZE = 8000, 10
LIMITS = Limits()


def holdout(*, live_noise: float = 1.0, challenger_noise: float = 1.0, bias: float = 0.0, seed: int = 0) -> Holdout:
    """Rows of a known truth; each side sees its log odds through noise, the challenger's moved by `bias`."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(-1, 1.5, ROWS)
    label = (rng.random(ROWS) < sigmoid(truth)).astype(np.float64)
    live, challenger = (sigmoid(truth + rng.normal(0, noise, ROWS)) for noise in (live_noise, challenger_noise))
    challenger = sigmoid(np.log(challenger / (1 - challenger)) + bias)
    return Holdout(label, challenger, live, np.arange(ROWS) // GROUP_SIZE, {})


def sigmoid(logit: Floats) -> Floats:
    return 1 / (1 + np.exp(-logit))


def by_name(checks: list[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


def failed(rows: Holdout, limits: Limits = LIMITS) -> set[str]:
    return {check.name for check in quality_checks(rows, limits) if check.outcome == "failed"}


def test_a_challenger_equal_to_live_passes_every_check() -> None:
    rows = holdout()
    checks = quality_checks(replace(rows, challenger=rows.baseline), LIMITS)
    assert [check.name for check in checks] == ["finite_scores", "auc", "log_loss", "calibration", "ndcg_at_10"]
    assert {check.outcome for check in checks} == {"passed"}


@pytest.mark.parametrize("seed", range(5))
def test_a_challenger_as_good_as_live_passes_though_its_scores_are_others(seed: int) -> None:
    assert failed(holdout(live_noise=0.1, challenger_noise=0.1, seed=seed)) == set()


@pytest.mark.parametrize("seed", range(5))
def test_an_auc_lower_by_two_hundredths_is_refused_naming_auc(seed: int) -> None:
    rows = holdout(live_noise=0.3, challenger_noise=0.67, seed=seed)
    assert auc(rows.label, rows.baseline) - auc(rows.label, rows.challenger) == pytest.approx(0.02, abs=0.008)
    assert "auc" in failed(rows)


def test_a_better_challenger_passes() -> None:
    assert failed(holdout(live_noise=1.5, challenger_noise=0.5)) == set()


def test_scores_that_rank_as_well_but_promise_too_much_fail_by_calibration_and_log_loss() -> None:
    rows = holdout()
    overconfident = replace(rows, challenger=sigmoid(np.log(rows.baseline / (1 - rows.baseline)) + 1.5))
    assert failed(overconfident) == {"calibration", "log_loss"}


def test_constant_scores_are_refused_naming_auc() -> None:
    rows = holdout()
    assert {"auc", "ndcg_at_10"} <= failed(replace(rows, challenger=np.full(ROWS, rows.label.mean())))


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
@pytest.mark.parametrize("side", ["challenger", "baseline"])
def test_scores_that_are_not_finite_are_one_failed_check_and_no_exception(wrong: float, side: str) -> None:
    rows = holdout()
    getattr(rows, side)[:3] = wrong
    (check,) = quality_checks(rows, LIMITS)
    assert (check.name, check.outcome, check.observed, check.limit) == ("finite_scores", "failed", 3, 0)
    assert f"{side} 3" in check.detail


@pytest.mark.parametrize("label", [0.0, 1.0])
def test_rows_of_one_class_judge_nothing_and_are_not_passed(label: float) -> None:
    checks = by_name(quality_checks(replace(holdout(), label=np.full(ROWS, label)), LIMITS))
    assert (checks["auc"].outcome, checks["auc"].limit) == ("failed", "rows of both classes")
    assert checks["ndcg_at_10"].outcome == "skipped"


def test_rows_that_are_each_ranked_alone_skip_ndcg() -> None:
    rows = holdout()
    checks = by_name(quality_checks(replace(rows, challenger=rows.baseline, group=np.arange(ROWS)), LIMITS))
    assert checks["ndcg_at_10"].outcome == "skipped"
    assert checks["auc"].outcome == "passed"


def with_slice(size: int, noise: float) -> Holdout:
    """A challenger equal to live but on a slice of `size` rows, where noise is added."""
    rows = holdout(live_noise=0.3)
    mask = np.arange(ROWS) < size
    logit = np.log(rows.baseline / (1 - rows.baseline)) + np.random.default_rng(1).normal(0, noise, ROWS)
    challenger = np.where(mask, sigmoid(logit), rows.baseline)
    return replace(rows, challenger=challenger, slices={"new_apps": mask})


def test_a_loss_on_one_slice_is_refused_naming_the_slice_though_the_whole_passes() -> None:
    wrong = failed(with_slice(800, noise=0.8))
    assert "auc[new_apps]" in wrong
    assert not {"auc", "log_loss", "calibration", "ndcg_at_10"} & wrong


def test_a_slice_as_good_as_live_passes() -> None:
    checks = by_name(quality_checks(with_slice(1200, noise=0.01), LIMITS))
    assert checks["auc[new_apps]"].outcome == "passed"


def test_a_slice_under_its_minimum_is_skipped_with_its_size() -> None:
    checks = by_name(quality_checks(with_slice(LIMITS.slice_minimum - 1, noise=5.0), LIMITS))
    assert checks["slice[new_apps]"].outcome == "skipped"
    assert f"{LIMITS.slice_minimum - 1} rows" in checks["slice[new_apps]"].detail
    assert "auc[new_apps]" not in checks


def test_a_slice_of_one_class_is_skipped() -> None:
    rows = with_slice(2000, noise=0.0)
    one_class = replace(rows, label=np.where(rows.slices["new_apps"], 0.0, rows.label))
    assert by_name(quality_checks(one_class, LIMITS))["slice[new_apps]"].outcome == "skipped"


def test_a_slice_too_small_to_tell_its_margin_is_skipped_and_says_so() -> None:
    strict = Limits(auc_margin=0.0005, slice_minimum=10, slice_class_minimum=5)
    check = by_name(quality_checks(with_slice(600, noise=0.1), strict))["auc[new_apps]"]
    assert check.outcome == "skipped"
    assert "too few rows to tell" in check.detail


def test_no_shift_against_live_is_observed_where_there_is_none() -> None:
    rows = holdout()
    assert shift_check(replace(rows, challenger=rows.baseline), LIMITS).observed == 0.0


def test_scores_that_all_moved_to_one_place_fail_the_shift() -> None:
    rows = holdout()
    check = shift_check(replace(rows, challenger=np.full(ROWS, 0.999)), LIMITS)
    assert (check.name, check.outcome) == ("score_shift", "failed")


def test_a_ranking_turned_around_fails_the_overlap() -> None:
    score = np.random.default_rng(0).random(4000)
    group = np.arange(4000) // 100
    kept = overlap_check(group, LIMITS, challenger=score, live=score)
    lost = overlap_check(group, LIMITS, challenger=-score, live=score)
    assert (kept.outcome, kept.observed) == ("passed", 1.0)
    assert (lost.outcome, lost.observed) == ("failed", 0.0)


def test_shelves_of_ten_apps_have_no_overlap_to_measure() -> None:
    score = np.random.default_rng(0).random(100)
    assert overlap_check(np.arange(100) // 10, LIMITS, challenger=score, live=score).outcome == "skipped"
