"""`appshelf bench` on real homes, in processes of its own."""

import json
import subprocess
from pathlib import Path

import pytest

from service.settings import Settings
from tests.e2e.server import APPSHELF, ROOT
from tests.service.store_front import LIVE

pytestmark = pytest.mark.e2e


def bench(home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environ = {"APPSHELF_HOME": str(home), "PYTHONPATH": str(ROOT)}
    command = [*APPSHELF, "bench", "--seconds", "0.05", *options]
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=True)


def test_the_live_version_is_timed_and_what_suits_is_set(home: Path) -> None:
    found = json.loads(bench(home, "--json", "--within-ms", "1000").stdout)
    assert found["work"].startswith(LIVE)
    assert {(one["batch"], one["threads"]) for one in found["cuts"]} >= {(200, 1), (100, 1), (50, 1)}
    assert {one["requests"] for one in found["layouts"]} == {1, 2, 4, 8, 16}
    assert found["file"] == str(home / "settings.json")
    settings = Settings.from_env({"APPSHELF_HOME": str(home)})
    chosen = {name: getattr(settings, name) for name in ("workers", "torch_threads", "batch_limit")}
    assert chosen == found["chosen"] == json.loads((home / "settings.json").read_text())
    assert 1 <= settings.workers * settings.torch_threads <= found["cores"]


def test_with_nothing_live_the_papers_size_is_timed_and_a_dry_run_sets_nothing(tmp_path: Path) -> None:
    printed = bench(tmp_path / "home", "--dry-run").stdout
    assert "a network of the paper's size" in printed
    assert "the paper's ms" in printed
    assert "APPSHELF_BATCH_LIMIT=" in printed
    assert not (tmp_path / "home" / "settings.json").exists()
