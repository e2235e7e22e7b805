import json
from pathlib import Path

import pytest
import torch

from bench.steps import WITHIN, Stopwatch, report, walked
from service.api.rank_wire import RankReader
from service.container import Container, build
from tests.service.store_front import APPS, LIVE, furnish, settings


@pytest.fixture
def container(tmp_path: Path) -> Container:
    furnish(tmp_path / "home")
    made = build(settings(tmp_path / "home"))
    made.engine.swap(made.prepare(LIVE))
    return made


def test_a_request_is_walked_from_its_body_to_its_answer_step_by_step(container: Container) -> None:
    body = {"user": {"id": "u1"}, "context": {"daytime": "evening"}, "candidates": APPS, "k": 10}
    watch = Stopwatch()
    with torch.inference_mode():
        for _ in range(3):
            walked(container, json.dumps(body).encode(), RankReader(), watch)
    one_after_the_other = [step for step in watch.medians if step not in WITHIN]
    assert one_after_the_other[0] == "body read"
    assert one_after_the_other[-1] == "answer written"
    assert {*WITHIN} <= watch.medians.keys()


def test_what_is_not_read_or_refused_is_no_request_of_the_work(container: Container) -> None:
    with pytest.raises(RuntimeError, match="is not read"):
        walked(container, b"{}", RankReader(), Stopwatch())
    odd = {"user": {"id": "u1"}, "context": {"nosuch": 1}, "candidates": APPS}
    with pytest.raises(RuntimeError, match="is refused"):
        walked(container, json.dumps(odd).encode(), RankReader(), Stopwatch())


def test_the_sum_leaves_out_what_is_within_other_steps() -> None:
    lines = report({"fast": {"body read": 2.0, WITHIN[0]: 30.0, "answer written": 5.0}}).splitlines()
    assert lines[-1].split()[-1] == "7"
