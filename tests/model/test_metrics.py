"""Metrics against naive loops, known values and their degenerate inputs."""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from model import metrics
from model.metrics import MetricUndefined

Floats = npt.NDArray[np.float64]


def tied_rows(seed: int, count: int = 60) -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """Labels, scores with many ties, and groups."""
    rng = np.random.default_rng(seed)
    label = (rng.random(count) < 0.4).astype(np.float64)
    return label, rng.integers(0, 8, count) / 8 + 0.05, rng.integers(0, 7, count)


def pair_count_auc(label: Floats, score: Floats) -> float:
    wins = [
        1.0 if score[i] > score[j] else 0.5 if score[i] == score[j] else 0.0
        for i in range(label.size)
        for j in range(label.size)
        if label[i] == 1 and label[j] == 0
    ]
    return sum(wins) / len(wins)


def ndcg_of_one_order(label: Floats, score: Floats, k: int, order: npt.NDArray[np.int64]) -> float:
    """NDCG@k of one group when ties are broken by a given order."""
    ranked = sorted(range(label.size), key=lambda row: (-score[row], order[row]))
    gain = sum(label[row] / math.log2(place + 2) for place, row in enumerate(ranked[:k]))
    return float(gain / sum(1 / math.log2(place + 2) for place in range(min(k, int(label.sum())))))


@pytest.mark.parametrize("seed", range(5))
def test_auc_equals_the_count_over_all_pairs_with_ties_as_a_half(seed: int) -> None:
    label, score, _ = tied_rows(seed)
    assert metrics.auc(label, score) == pytest.approx(pair_count_auc(label, score), abs=1e-12)


def test_a_weighted_auc_equals_the_auc_of_repeated_rows() -> None:
    label, score, _ = tied_rows(1)
    weights = np.random.default_rng(2).integers(0, 4, label.size)
    repeated = metrics.auc(np.repeat(label, weights), np.repeat(score, weights))
    assert metrics.auc_statistic(label, score).under(weights.astype(np.float64)) == pytest.approx(repeated, abs=1e-12)


def test_log_loss_is_the_mean_negative_log_likelihood() -> None:
    label, score, _ = tied_rows(3)
    naive = [-math.log(p if y else 1 - p) for y, p in zip(label, score, strict=True)]
    assert metrics.log_loss(label, score) == pytest.approx(sum(naive) / len(naive))


def test_log_loss_of_a_certain_mistake_is_finite() -> None:
    assert metrics.log_loss([1, 0], [0.0, 1.0]) == pytest.approx(-math.log(1e-15), rel=1e-2)


def test_calibration_is_predicted_over_observed() -> None:
    assert metrics.calibration([1, 0, 0, 0], [0.4, 0.2, 0.2, 0.2]) == pytest.approx(1.0)
    assert metrics.calibration([1, 0], [0.5, 0.25]) == pytest.approx(0.75)


def test_miscalibration_is_the_same_for_twice_and_for_half() -> None:
    label = [1, 0, 1, 0]
    twice, half = (metrics.miscalibration_statistic(label, [p] * 4).value for p in (1.0, 0.25))
    assert twice == pytest.approx(half) == pytest.approx(math.log(2))


@pytest.mark.parametrize("k", [1, 3, 10])
def test_ndcg_equals_the_mean_over_random_orders_of_the_tied_rows(k: int) -> None:
    label, score, group = tied_rows(4)
    rng = np.random.default_rng(0)
    values = []
    for name in np.unique(group):
        mine = group == name
        if 0 < label[mine].sum() < mine.sum():
            orders = [rng.permutation(int(mine.sum())) for _ in range(3000)]
            values.append(np.mean([ndcg_of_one_order(label[mine], score[mine], k, order) for order in orders]))
    assert metrics.ndcg_at(k, group, label=label, score=score) == pytest.approx(np.mean(values), abs=0.01)


def test_ndcg_without_ties_equals_a_naive_loop() -> None:
    label, _, group = tied_rows(5)
    score = np.random.default_rng(1).random(label.size)
    mixed = [name for name in np.unique(group) if 0 < label[group == name].mean() < 1]
    naive = [ndcg_of_one_order(label[group == name], score[group == name], 3, np.arange(label.size)) for name in mixed]
    assert metrics.ndcg_at(3, group, label=label, score=score) == pytest.approx(np.mean(naive), abs=1e-12)


def test_constant_scores_gain_nothing_from_the_order_of_the_rows() -> None:
    best_first = metrics.ndcg_at(1, [0] * 4, label=[1, 0, 0, 0], score=[0.5] * 4)
    best_last = metrics.ndcg_at(1, [0] * 4, label=[0, 0, 0, 1], score=[0.5] * 4)
    assert best_first == best_last == pytest.approx(0.25)


def test_hit_rate_is_the_share_of_groups_whose_positive_is_among_the_first() -> None:
    group, label = [0, 0, 0, 1, 1, 1, 2], [1, 0, 0, 0, 1, 0, 0]
    score = [0.5, 0.9, 0.1, 0.8, 0.1, 0.2, 0.3]
    assert metrics.hit_rate(2, group, label=label, score=score) == 0.5


def test_a_hit_that_only_ties_with_the_last_place_does_not_count() -> None:
    assert metrics.hit_rate(1, [0, 0], label=[1, 0], score=[0.5, 0.5]) == 0.0


def test_overlap_is_the_share_of_the_first_rows_that_both_keep() -> None:
    group, a = [0, 0, 0, 0, 1, 1], [0.9, 0.8, 0.2, 0.1, 0.5, 0.4]
    assert metrics.top_overlap(2, group, a=a, b=a) == 1.0
    assert metrics.top_overlap(2, group, a=a, b=[0.9, 0.1, 0.8, 0.2, 0.5, 0.4]) == 0.5


def test_psi_is_nothing_for_the_same_values_and_grows_with_the_shift() -> None:
    values = np.random.default_rng(0).normal(size=5000)
    same, near, far = (metrics.psi(values, values + shift) for shift in (0.0, 0.2, 1.0))
    assert same == 0.0
    assert 0.0 < near < far


def test_psi_equals_its_formula_over_deciles() -> None:
    expected, actual = np.arange(100.0), np.concatenate([np.full(50, 5.0), np.full(50, 95.0)])
    naive = 2 * (0.5 - 0.1) * math.log(0.5 / 0.1) + 8 * (1e-4 - 0.1) * math.log(1e-4 / 0.1)
    assert metrics.psi(expected, actual) == pytest.approx(naive)


def test_psi_of_constant_scores_is_defined() -> None:
    assert metrics.psi(np.full(50, 0.3), np.full(50, 0.3)) == 0.0


def test_the_bootstrap_of_equal_scores_is_exactly_nothing() -> None:
    label, score, _ = tied_rows(6)
    statistic = metrics.auc_statistic(label, score)
    assert metrics.paired_bootstrap(statistic, statistic) == metrics.Interval(0.0, 0.0, 0.0)


def test_the_bootstrap_interval_is_the_same_for_the_same_seed_and_holds_the_difference() -> None:
    rng = np.random.default_rng(0)
    label = (rng.random(4000) < 0.3).astype(np.float64)
    sharp, blunt = (metrics.auc_statistic(label, label + rng.normal(0, noise, 4000)) for noise in (1.0, 1.5))
    first, again = (metrics.paired_bootstrap(sharp, blunt, seed=3) for _ in range(2))
    assert first == again
    assert 0 < first.low < sharp.value - blunt.value < first.high
    assert first.mean == pytest.approx(sharp.value - blunt.value, abs=0.01)


def test_the_bootstrap_leaves_out_resamples_of_one_class() -> None:
    label, score = np.array([1.0, 0, 0, 0]), np.array([0.9, 0.1, 0.2, 0.3])
    a, b = metrics.auc_statistic(label, score), metrics.auc_statistic(label, -score)
    assert metrics.paired_bootstrap(a, b).mean == pytest.approx(1.0)


def test_the_bootstrap_refuses_two_sizes() -> None:
    a, b = metrics.log_loss_statistic([1], [0.5]), metrics.log_loss_statistic([1, 0], [0.5, 0.5])
    with pytest.raises(ValueError, match="1 units beside 2"):
        metrics.paired_bootstrap(a, b)


@pytest.mark.parametrize(
    ("metric", "words"),
    [
        (lambda: metrics.auc([1, 1], [0.1, 0.2]), "2 positives and 0 negatives"),
        (lambda: metrics.auc([0, 0, 0], [0.1, 0.2, 0.3]), "0 positives and 3 negatives"),
        (lambda: metrics.auc([], []), "0 rows"),
        (lambda: metrics.auc([1, 0], [math.nan, 0.1]), "2 scores of which 1 are not finite"),
        (lambda: metrics.log_loss([], []), "0 rows"),
        (lambda: metrics.calibration([0, 0], [0.1, 0.2]), "2 rows with 0 positives"),
        (lambda: metrics.miscalibration_statistic([0, 0], [0.1, 0.2]), "2 rows with 0 positives"),
        (lambda: metrics.ndcg_at(10, [0, 1], label=[1, 0], score=[0.1, 0.2]), "2 groups, none with both classes"),
        (lambda: metrics.hit_rate(10, [0, 1], label=[0, 0], score=[0.1, 0.2]), "2 rows with 0 positives"),
        (lambda: metrics.top_overlap(2, [0, 0], a=[1, 2], b=[1, 2]), "1 groups, none of more than 2 rows"),
        (lambda: metrics.psi([], [0.1]), "0 expected and 1 actual"),
    ],
)
def test_a_metric_without_a_value_says_so_with_the_numbers(metric: Callable[[], float], words: str) -> None:
    with pytest.raises(MetricUndefined, match=words):
        metric()


def test_labels_and_scores_of_two_shapes_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="both must be"):
        metrics.auc([1, 0, 1], [0.1, 0.2])
