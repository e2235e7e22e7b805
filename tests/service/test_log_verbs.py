"""`appshelf log` on the command line."""

import json
from pathlib import Path

import pytest

from service.container import Container
from service.settings import DAY_S
from service.store.log_ports import Feedback, Impression, LogCounts, Shown
from tests.service.command_line import Run, refusal, run_on

START = 1_767_225_600.0  # 2026-01-01


@pytest.fixture
def filled(container: Container) -> Container:
    """A log with an impression and an event on each of four days."""
    times = [START + number * DAY_S for number in range(4)]
    items = (Shown("com.x", 1, 0.5, {}, 0),)
    container.log.show(Impression(f"r{place}", at, "v", "u", {}, {}, {}, items) for place, at in enumerate(times))
    container.log.take(
        [Feedback(f"e{place}", "click", at, at, "com.x", "u", None, True) for place, at in enumerate(times)]
    )
    return container


def test_a_log_is_exported_and_imported_elsewhere(filled: Container, run: Run, tmp_path: Path) -> None:
    folder = tmp_path / "export"
    assert "4 impressions and 4 events" in run("log", "export", str(folder)).stdout
    elsewhere = run_on(tmp_path / "elsewhere")
    assert "4 of 4 events were new" in elsewhere("log", "import", str(folder)).stdout
    again = json.loads(elsewhere("log", "import", str(folder), "--json").stdout)
    assert again == {
        "read": {"impressions": 4, "events": 4},
        "new": {"impressions": 0, "events": 0},
        "refused": 0,
    }


def test_an_export_may_be_of_some_days(filled: Container, run: Run, tmp_path: Path) -> None:
    days = ("--since", "2026-01-02", "--until", "2026-01-04T00:00:00")
    result = run("log", "export", str(tmp_path / "export"), *days, "--json")
    assert json.loads(result.stdout) == {"impressions": 2, "events": 2}


def test_stats_tell_how_much_there_is_and_since_when(filled: Container, run: Run) -> None:
    told = json.loads(run("log", "stats", "--json").stdout)
    assert told == {"impressions": 4, "events": 4, "oldest": "2026-01-01T00:00:00+00:00"}
    assert "2026-01-01T00:00:00+00:00" in run("log", "stats").stdout


def test_an_empty_log_has_stats_too(run: Run) -> None:
    assert json.loads(run("log", "stats", "--json").stdout) == {"impressions": 0, "events": 0, "oldest": None}


def test_a_folder_without_an_export_is_refused_in_a_sentence(filled: Container, run: Run, tmp_path: Path) -> None:
    assert "holds no whole export" in refusal(run("log", "import", str(tmp_path / "nothing")))
    assert filled.log.counts() == LogCounts(4, 4)


def test_a_folder_with_something_in_it_is_not_exported_to(filled: Container, run: Run, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    assert "is not empty" in refusal(run("log", "export", str(tmp_path)))
