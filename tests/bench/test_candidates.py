import pytest

from bench.candidates import slope
from bench.serving import lopsided
from bench.tens import compare


def test_the_slope_is_what_one_more_candidate_costs() -> None:
    assert slope({10: 120.0, 200: 500.0, 1000: 2100.0}) == pytest.approx(2.0)


def test_connections_that_one_worker_holds_nearly_alone_are_lopsided() -> None:
    assert lopsided((8,), 8)
    assert lopsided((7, 1), 8)
    assert not lopsided((6, 2), 8)
    assert not lopsided((16, 16), 32)


def test_a_single_connection_is_never_lopsided() -> None:
    assert not lopsided((1,), 1)


def test_answers_agree_by_share_order_and_score() -> None:
    reference = [[("a", 0.9), ("b", 0.8)], [("a", 0.9), ("b", 0.8)]]
    found = compare([[("a", 0.9), ("b", 0.8)], [("a", 0.9), ("c", 0.7)]], reference)
    assert (found.overlap, found.same) == (0.75, 0.5)
    assert found.error == pytest.approx(0.1)


def test_scores_that_tie_may_stand_in_either_order() -> None:
    assert compare([[("b", 0.8), ("a", 0.8 - 1e-6)]], [[("a", 0.8), ("b", 0.8 - 1e-6)]]).same == 1.0
