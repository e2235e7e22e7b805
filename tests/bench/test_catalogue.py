import json

import numpy as np
import pytest

from bench.catalogue import noticed, report, whole
from bench.openloop import Answers


def answers_of(*told: tuple[float, int]) -> Answers:
    """Due and sent at 0. told: when each answer came, and its status."""
    received, status = (np.array(column) for column in zip(*told, strict=True))
    nothing = np.zeros(len(told))
    return Answers(nothing, nothing, received, status, nothing.astype(int), nothing.astype(int), ())


def test_a_whole_catalogue_is_asked_for_by_leaving_out_the_candidates() -> None:
    body = {"user": {"id": "u1"}, "context": {}, "candidates": ["a"], "k": 10}
    assert json.loads(whole(json.dumps(body).encode())) == {"user": {"id": "u1"}, "context": {}, "k": 10}


def test_latencies_are_of_right_answers_and_what_was_refused_or_failed_beside_the_other_is_counted() -> None:
    alone, beside = [(200, 0.1), (200, 0.3), (503, 0.0)], [(200, 0.4), (500, 9.0)]
    found = noticed(4000, (alone, beside), (answers_of((0.01, 200), (9, 503)), answers_of((0.02, 200), (9, 503))))
    assert (found.whole_ms, found.beside_ms) == pytest.approx((200, 400))
    assert [*found.alone, *found.held] == pytest.approx([10, 10, 20, 20])
    assert (found.refused, found.failed) == (2, 1)
    assert "4,000" in report([found])
