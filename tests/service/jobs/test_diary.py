"""What a job tells of itself."""

import pytest

from service.errors import StoreUnavailable
from service.jobs.diary import BETWEEN_REPORTS_S, Diary
from service.store.job_ports import JobState
from tests.service.jobs.workshop import Workshop


def test_a_step_is_told_before_it_begins_and_its_seconds_after(shop: Workshop) -> None:
    job_id = shop.submit()
    diary = Diary(shop.store, job_id, time=shop.time)
    with diary.step("train"):
        assert shop.job(job_id).progress == {"step": "train"}
        shop.clock.advance(12.5)
    assert diary.seconds == {"train": 12.5}


def test_progress_that_comes_too_fast_to_read_is_left_out(shop: Workshop) -> None:
    job_id = shop.submit()
    diary = Diary(shop.store, job_id, time=shop.time)
    with diary.step("train"):
        diary.progress({"epoch": 1})
        assert shop.job(job_id).progress == {"step": "train"}
        shop.clock.advance(BETWEEN_REPORTS_S)
        diary.progress({"epoch": 2})
        assert shop.job(job_id).progress == {"step": "train", "epoch": 2}


def test_a_store_that_is_away_costs_lines_and_progress_and_the_end_waits_for_it(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    job_id = shop.submit()
    diary = Diary(shop.store, job_id, time=shop.time)
    real, left = shop.store.end, [3]

    def away(*_: object, **__: object) -> None:
        raise StoreUnavailable("redis", "gone")

    def end(*arguments: object, **named: object) -> bool:
        left[0] -= 1
        if left[0]:
            raise StoreUnavailable("redis", "gone")
        return real(*arguments, **named)  # type: ignore[arg-type]  # passed on as they came

    for method in ("say", "report"):
        monkeypatch.setattr(shop.store, method, away)
    monkeypatch.setattr(shop.store, "end", end)
    with diary.step("train"):
        diary.say("nobody hears it")
        diary.progress({"epoch": 1})
    diary.end(JobState.SUCCEEDED, {"version": "v1"})
    job = shop.job(job_id)
    assert (job.state, job.result, job.lines, job.progress) == (JobState.SUCCEEDED, {"version": "v1"}, (), {})
