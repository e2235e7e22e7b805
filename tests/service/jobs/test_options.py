"""What a retrain may be asked to do."""

from typing import Any

import pytest

from service.errors import RetrainRefused
from service.jobs.options import RetrainOptions
from service.settings import Settings

SETTINGS = Settings.model_validate({"retrain_mode": "full", "retrain_window_days": 7, "retrain_replay": 2})


def test_what_is_left_open_is_as_the_settings_have_it() -> None:
    options = RetrainOptions.of({"mode": None, "replay": 0.5}, SETTINGS)
    assert (options.mode, options.window_days, options.replay) == ("full", 7.0, 0.5)
    assert options.promote


def test_from_scratch_is_over_the_whole_window_whatever_the_settings_say() -> None:
    assert RetrainOptions.of({"scratch": True}, Settings.model_validate({})).mode == "full"


def test_a_job_keeps_them_as_json() -> None:
    options = RetrainOptions.of({"start_from": "20260101T000000Z-aaaaaa", "compact": True}, SETTINGS)
    assert RetrainOptions.parse(options.as_json()) == options


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"mode": "half"}, "mode"),
        ({"window_days": 0}, "window_days"),
        ({"window_days": float("inf")}, "window_days"),
        ({"replay": -1}, "replay"),
        ({"start_from": "../etc"}, "start_from"),
        ({"epochs": 3}, "epochs"),
        ({"scratch": True, "compact": True}, "scratch starts from nothing, so it goes without compact"),
        ({"scratch": True, "start_from": "20260101T000000Z-aaaaaa"}, "without from"),
        ({"scratch": True, "mode": "incremental"}, "without the mode incremental"),
    ],
)
def test_what_is_not_allowed_is_refused_by_name(given: dict[str, Any], said: str) -> None:
    with pytest.raises(RetrainRefused, match=said):
        RetrainOptions.of(given, SETTINGS)
