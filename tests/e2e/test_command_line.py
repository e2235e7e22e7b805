"""The command line and the example client beside a running server."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.load import RANK
from tests.e2e.server import APPSHELF, ROOT, running
from tests.service.store_front import LIVE, PASSED

pytestmark = pytest.mark.e2e


def appshelf(home: Path, *words: str) -> str:
    """What a verb prints on a home."""
    environ = {**os.environ, "APPSHELF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    return subprocess.run([*APPSHELF, *words], env=environ, capture_output=True, text=True, check=True).stdout


def test_a_promote_and_a_rollback_reach_every_worker_of_a_running_server(home: Path) -> None:
    with running(home, workers=2) as server, server.client() as client:
        promoted = appshelf(home, "promote", PASSED)
        assert promoted.count(f"serves {PASSED}") == 2
        assert client.post("/rank", json=RANK).json()["version"] == PASSED
        assert appshelf(home, "rollback").count(f"serves {LIVE}") == 2
        assert client.post("/rank", json=RANK).json()["version"] == LIVE


def test_the_example_client_prints_ten_apps_and_tells_of_an_install(home: Path) -> None:
    client = [sys.executable, str(ROOT / "examples" / "client.py")]
    with running(home) as server:
        printed = subprocess.run([*client, server.url], capture_output=True, text=True, check=True).stdout
    assert len(re.findall(r"^ +\d+  0\.\d{4}  com\.app\d\d$", printed, re.MULTILINE)) == 10
    assert re.search(r"^install of com\.app\d\d: accepted$", printed, re.MULTILINE)


def test_the_example_client_says_a_refusal_in_one_line(home: Path) -> None:
    with running(home) as server:
        command = [sys.executable, str(ROOT / "examples" / "client.py"), f"{server.url}/nowhere"]
        ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith("404 ")
    assert len(ended.stderr.splitlines()) == 1
