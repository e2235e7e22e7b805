"""A process beside this one."""

import logging
import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from service.companion import Companion
from service.jobs.attempt import Attempt
from service.lifeline import ROOT
from tests.service.wire import soon

BESIDE = """
import os, sys, time
open(sys.argv[1] + str(os.getpid()), "w").close()
time.sleep(float(sys.argv[2]))
"""
WITH_PARENT = """
import os, sys, time
from service.jobs.attempt import end_session
from service.lifeline import end_with_parent
end_with_parent(end_session)
open(sys.argv[1] + str(os.getpid()), "w").close()
time.sleep(600)
"""
PARENT = """
import os, sys, time
from service.jobs.attempt import Attempt
attempt = Attempt.start(["-c", sys.argv[1], sys.argv[2]], dict(os.environ))
time.sleep(600)
"""


def started(folder: Path) -> list[int]:
    return [int(file.name.removeprefix("pid")) for file in folder.glob("pid*")]


def test_it_runs_until_it_is_stopped(tmp_path: Path) -> None:
    companion = Companion(["-c", BESIDE, str(tmp_path / "pid"), "600"], os.environ)
    companion.start()
    assert soon(lambda: len(started(tmp_path)) == 1)
    companion.stop()
    assert not any(map(psutil.pid_exists, started(tmp_path)))


def test_one_that_dies_is_started_again(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    companion = Companion(["-c", BESIDE, str(tmp_path / "pid"), "0"], os.environ)
    with caplog.at_level(logging.WARNING, logger="service.companion"):
        companion.start()
        assert soon(lambda: len(started(tmp_path)) >= 2)
        companion.stop()
    assert "started again" in caplog.text


def test_one_that_never_started_can_be_stopped() -> None:
    Companion(["-c", ""], {}).stop()


def test_a_killed_parent_takes_its_attempt_with_it(tmp_path: Path) -> None:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", PARENT, WITH_PARENT, str(tmp_path / "pid")]
    with subprocess.Popen(command, env=environ) as parent:
        assert soon(lambda: len(started(tmp_path)) == 1)
        (child,) = map(psutil.Process, started(tmp_path))
        parent.kill()
    assert soon(lambda: not child.is_running() or child.status() == psutil.STATUS_ZOMBIE)


def test_an_attempt_that_is_killed_takes_what_it_started_with_it(tmp_path: Path) -> None:
    nested = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {BESIDE!r}, sys.argv[1], '600'])"
    attempt = Attempt.start(["-c", nested, str(tmp_path / "pid")], os.environ)
    assert soon(lambda: len(started(tmp_path)) == 1)
    (grandchild,) = map(psutil.Process, started(tmp_path))
    attempt.kill()
    assert attempt.ended() == -9
    assert attempt.last_words() == []
    assert soon(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)


def test_an_attempts_last_words_are_the_end_of_its_standard_error() -> None:
    attempt = Attempt.start(["-c", "import sys; sys.exit('x' * 100_000 + '\\nthe reason')"], os.environ)
    assert soon(lambda: attempt.ended() is not None)
    assert attempt.ended() == 1
    assert attempt.last_words()[-1] == "the reason"
