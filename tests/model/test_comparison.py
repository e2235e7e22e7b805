"""The statistics of a comparison beside naive loops."""

import numpy as np
import pytest

from model.checks import MEASURES, Floats, Holdout
from model.comparison import (
    Draws,
    Estimate,
    Rows,
    gain,
    interval,
    numbered,
    resampled,
    standings,
    statistic,
    units_of,
)
from model.metrics import Statistic, auc, auc_statistic, log_loss, ndcg_at, paired_bootstrap

BY_NAME = {one.name: one for one in MEASURES}


def rows_of(seed: int = 0, *, users: int = 12, each: int = 10) -> tuple[Rows, Floats, Floats]:
    """Rows of users with two groups each, a good score and a poor one."""
    rng = np.random.default_rng(seed)
    user = rng.permutation(np.repeat(np.arange(users), each))
    label = (rng.random(user.size) < 0.4).astype(np.float64)
    good = 1 / (1 + np.exp(-(2 * label - 1 + rng.normal(size=user.size))))
    poor = 1 / (1 + np.exp(-(label - 0.5 + 2 * rng.normal(size=user.size))))
    return Rows(label, user * 2 + rng.integers(0, 2, user.size), user, {"even": user % 2 == 0}), good, poor


def repeated(rows: Rows, score: Floats, weights: Floats) -> tuple[Rows, Floats]:
    """Every row as often as its unit was drawn, a copy of a unit being groups of its own."""
    taken = [(place, copy) for place in range(rows.unit.size) for copy in range(int(weights[rows.unit[place]]))]
    places, copies = np.array([place for place, _ in taken]), np.array([copy for _, copy in taken])
    return Rows(rows.label[places], rows.group[places] * 1000 + copies, rows.unit[places], {}), score[places]


def width(estimate: Estimate) -> float:
    assert estimate.around is not None
    return estimate.around.high - estimate.around.low


@pytest.mark.parametrize("measure", [*BY_NAME])
def test_a_measure_under_drawn_units_is_that_of_their_rows_written_out(measure: str) -> None:
    rows, score, _ = rows_of()
    rng = np.random.default_rng(3)
    for _ in range(5):
        weights = np.bincount(rng.integers(0, 12, 12), minlength=12).astype(np.float64)
        written, again = repeated(rows, score, weights)
        naive = BY_NAME[measure].of(Holdout(written.label, again, again, written.group, {}), again).value
        assert statistic(BY_NAME[measure], rows, score).under(weights) == pytest.approx(naive, abs=1e-12)


def test_a_value_is_the_metric_of_the_rows_as_they_are() -> None:
    rows, score, _ = rows_of()
    standing = standings(rows, {"one": [score]}, baseline="one", draws=Draws(20))["one"]
    assert standing["auc"].value == pytest.approx(auc(rows.label, score))
    assert standing["log_loss"].value == pytest.approx(log_loss(rows.label, score))
    assert standing["ndcg_at_10"].value == pytest.approx(ndcg_at(10, rows.group, label=rows.label, score=score))


def test_draws_of_single_rows_give_the_paired_bootstrap_of_the_gate() -> None:
    rows, good, poor = rows_of()
    single = Rows(rows.label, rows.group, np.arange(rows.label.size), {})
    mine = standings(single, {"good": [good], "poor": [poor]}, baseline="poor", draws=Draws(50, seed=4))
    theirs = paired_bootstrap(auc_statistic(rows.label, good), auc_statistic(rows.label, poor), resamples=50, seed=4)
    gained = mine["good"]["auc"].gain
    assert gained is not None
    assert (gained.low, gained.high) == (theirs.low, theirs.high)


def test_the_gain_of_a_smaller_loss_is_positive() -> None:
    rows, good, poor = rows_of()
    found = standings(rows, {"poor": [poor], "good": [good]}, baseline="poor", draws=Draws(100))
    assert found["poor"]["log_loss"].gain is None
    better = found["good"]["log_loss"]
    assert better.gain is not None
    assert better.gain.low > 0


def test_a_gain_is_the_difference_of_both_values() -> None:
    rows, good, poor = rows_of()
    found = standings(rows, {"good": [good, poor], "poor": [poor]}, baseline="poor", draws=Draws(20))
    for measure, sign in (("auc", 1), ("log_loss", -1), ("calibration", -1), ("ndcg_at_10", 1)):
        one, other = found["good"][measure], found["poor"][measure]
        assert one.gain is not None
        assert one.gain.mean == pytest.approx(sign * (one.value - other.value), abs=1e-12)


def test_two_contestants_differ_by_the_same_whoever_else_is_there() -> None:
    rows, good, poor = rows_of()
    two = {"one": [good, poor], "other": [poor, good[::-1]]}
    three = {"third": [poor, poor, good], **two}
    alone, among = (standings(rows, told, baseline="other", draws=Draws(30))["one"]["auc"] for told in (two, three))
    assert alone == among
    assert gain(rows, three, ("one", "other"), draws=Draws(30)) == among.gain


def test_drawing_whole_users_widens_an_interval_of_rows_that_are_alike_within_a_user() -> None:
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(40), 25)
    label = np.repeat(rng.random(40) < 0.5, 25).astype(np.float64)
    score = np.repeat(rng.random(40), 25)
    widths = []
    for unit in (user, np.arange(user.size)):
        (one,) = standings(Rows(label, user, unit, {}), {"a": [score]}, baseline="a", draws=Draws(200)).values()
        widths.append(width(one["auc"]))
    assert widths[0] > 3 * widths[1]


def test_seeds_give_a_mean_a_deviation_and_a_wider_interval() -> None:
    rows, good, poor = rows_of()
    found = standings(rows, {"one": [good], "both": [good, poor]}, baseline="one", draws=Draws(200))
    values = [auc(rows.label, score) for score in (good, poor)]
    both = found["both"]["auc"]
    assert both.value == pytest.approx(np.mean(values))
    assert both.deviation == pytest.approx(np.std(values, ddof=1))
    assert found["one"]["auc"].deviation is None
    assert width(both) > width(found["one"]["auc"])


def test_seeds_are_drawn_with_replacement_beside_the_units() -> None:
    def constant(value: float) -> Statistic:
        return Statistic(5, lambda _: value)

    drawn = resampled({"two seeds": [constant(0.0), constant(1.0)], "one": [constant(3.0)]}, Draws(400))
    assert sorted(set(drawn[:, 0])) == [0.0, 0.5, 1.0]
    assert set(drawn[:, 1]) == {3.0}
    assert drawn[:, 0].mean() == pytest.approx(0.5, abs=0.05)


def test_a_slice_is_judged_by_its_own_rows() -> None:
    rows, good, _ = rows_of(users=24)
    part, mask = rows.only(rows.slices["even"]), rows.slices["even"]
    assert part.unit.max() == 11
    found = standings(part, {"a": [good[mask]]}, baseline="a", draws=Draws(10))["a"]
    assert found["auc"].value == pytest.approx(auc(rows.label[mask], good[mask]))


def test_a_measure_without_a_value_is_left_out() -> None:
    rows = Rows(np.ones(4), np.arange(4), np.arange(4), {})
    found = standings(rows, {"a": [np.full(4, 0.5)]}, baseline="a", draws=Draws(10))["a"]
    assert set(found) == {"log_loss", "calibration"}
    assert gain(rows, {"a": [np.full(4, 0.5)], "b": [np.full(4, 0.6)]}, ("a", "b"), draws=Draws(10)) is None


def test_resamples_without_a_value_are_left_out_of_an_interval() -> None:
    found = interval(np.array([np.nan, 1.0, 2.0]))
    assert found is not None
    assert found.mean == 1.5
    assert interval(np.array([np.nan])) is None


def test_users_are_drawn_where_there_are_enough_and_groups_where_not() -> None:
    group = np.arange(100)
    assert units_of([f"u{one % 30}" for one in range(100)], group)[1] == "users"
    unit, name = units_of(["u1"] * 100, group)
    assert name == "groups of rows ranked together"
    assert unit.tolist() == list(range(100))
    assert numbered(["b", "a", "b"]).tolist() == [1, 0, 1]


@pytest.mark.parametrize("users", [1, 9])
def test_so_few_units_that_their_resamples_are_alike_have_values_and_no_interval(users: int) -> None:
    rows, good, poor = rows_of(users=users, each=40)
    found = standings(rows, {"poor": [poor], "good": [good]}, baseline="poor", draws=Draws(50))
    assert found["good"]["auc"].value == pytest.approx(auc(rows.label, good))
    assert (found["good"]["auc"].around, found["good"]["auc"].gain) == (None, None)
    assert gain(rows, {"poor": [poor], "good": [good]}, ("good", "poor"), draws=Draws(50)) is None
