"""A child that cannot come to its job."""

from pathlib import Path

import pytest

from service.jobs.attending import TRY_AGAIN, attend


def test_a_child_whose_home_is_gone_asks_for_another_attempt_and_makes_no_empty_home(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    away = tmp_path / "shelf"

    assert attend("j1", worker="w1", environ={"APPSHELF_HOME": str(away)}) == TRY_AGAIN

    assert "its queue.sqlite is gone; mount it or move it back" in capsys.readouterr().err
    assert not away.exists()
