"""What follows from a calibration's figures, and how they are taken; that they are taken at all is tests/e2e's."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.fast_scorer import Precision
from service.calibration import Calibration, CalibrationFailed, Layout, Plan, measure, thread_counts, usable_cores
from service.commands.bench import print_found
from service.container import Container
from service.timing import CANDIDATES, Work, cut, live_work, measured, timed, together
from tests.service.store_front import LIVE


def layout(requests: int, *, ms: float, per_s: float, threads: int = 1) -> Layout:
    return Layout(requests, threads, 2 // threads, ms, ms, per_s)


def found(*layouts: Layout) -> Calibration:
    return Calibration("some work", "exact", (), layouts)


def test_the_highest_throughput_within_the_bound_is_chosen() -> None:
    slow, quick, too_long = layout(1, ms=1, per_s=1000), layout(4, ms=3, per_s=1500), layout(16, ms=11, per_s=1900)
    assert found(slow, quick, too_long).chosen(10) == quick


def test_of_throughputs_as_good_the_shortest_call_is_chosen() -> None:
    four, eight = layout(4, ms=3, per_s=1480), layout(8, ms=6, per_s=1500)
    assert found(four, eight).chosen(10) == four


def test_where_no_call_is_within_the_bound_the_shortest_is_chosen() -> None:
    one, two = layout(1, ms=20, per_s=50), layout(1, threads=2, ms=12, per_s=40)
    assert found(one, two).chosen(10) == two


@pytest.mark.parametrize(("within_ms", "told"), [(20, "most requests/s within"), (10, "no call takes at most 10")])
def test_what_is_said_of_the_choice_is_so(within_ms: float, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    made = found(layout(1, ms=20, per_s=50), layout(1, threads=2, ms=12, per_s=40))
    print_found(made, made.chosen(within_ms), within_ms=within_ms)
    assert told in capsys.readouterr().out


def test_a_layout_says_the_settings_that_make_it() -> None:
    assert layout(8, threads=2, ms=1, per_s=1).settings == {"workers": 1, "torch_threads": 2, "batch_limit": 8}


@pytest.mark.parametrize(("cores", "tried"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_powers_of_two_and_all_cores_are_tried(cores: int, tried: list[int]) -> None:
    assert thread_counts(cores) == tried


@pytest.mark.parametrize(
    ("text", "cores"), [("100000 100000", 1), ("50000 100000", 1), ("max 100000", None), ("", None)]
)
def test_a_containers_quota_limits_the_cores(tmp_path: Path, text: str, cores: int | None) -> None:
    (tmp_path / "cpu.max").write_text(text)
    assert usable_cores(tmp_path / "cpu.max") == (cores or usable_cores(tmp_path / "none"))


@pytest.fixture
def work(container: Container) -> Work:
    return live_work(container, LIVE)


def test_the_live_version_is_asked_by_its_golden_users_for_as_many_candidates_as_the_papers(work: Work) -> None:
    asks = work.asks(0, 100)
    assert work.fast.precision in Precision
    assert {len(ask.rows) for ask in asks} == {CANDIDATES}
    assert all(len(best.places) >= ask.k for ask, best in zip(asks, work.fast.best(asks), strict=True))
    assert len({tuple(ask.rows.tolist()) for ask in asks[:10]}) == 10


def test_a_request_cut_into_batches_is_scored_whole(work: Work) -> None:
    scored: list[int] = []
    with ThreadPoolExecutor(2) as pool:
        found = cut(work, 50, pool)(0)
    assert isinstance(found, list)
    scored = [len(best) for best in found]
    assert scored == [1] * 4


def test_every_figure_that_is_wanted_is_taken(work: Work) -> None:
    took = measured(work, [[2], [100, 2], [1]], seconds=0.01)
    assert len(took) == 3
    assert all(one.calls >= 5 and 0 < one.ms <= one.p99_ms and one.all_s > 0 for one in took)


def test_calls_are_made_one_after_the_other_until_the_time_is_over(work: Work) -> None:
    turns: list[int] = []
    took = timed(turns.append, 0.001)
    assert turns[-took.calls :] == list(range(took.calls))
    assert together(work, 3)(7) is not None


def test_a_process_that_cannot_measure_is_told_with_its_last_words(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_text("this is no store")
    with pytest.raises(CalibrationFailed, match=r"ended with 1, .*store\.sqlite"):
        measure({"APPSHELF_HOME": str(tmp_path)}, Plan(1, 1, [(1,)], 0.05))
