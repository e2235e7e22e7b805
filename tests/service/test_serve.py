"""What `appshelf serve` checks and prepares, and how its processes begin and end."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

import psutil
import pytest

from service.errors import BindRefused, HomeInUse, SettingsRefused
from service.home import Home, exclusive
from service.serve import AddressTaken, greeting, listen, serve, worker_environment
from service.settings import Settings

LIMIT_S = 60


def settings(tmp_path: Path, **given: object) -> Settings:
    return Settings.model_validate({"home": tmp_path, "port": 0, **given})


def refuse_to_speak(line: str) -> None:
    raise AssertionError(line)


def test_a_server_beyond_loopback_without_keys_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with pytest.raises(BindRefused):
        serve({"APPSHELF_HOME": str(home), "APPSHELF_HOST": "0.0.0.0"}, announce=refuse_to_speak)
    assert not home.exists()


def test_a_second_server_on_a_home_is_refused_naming_the_first(tmp_path: Path) -> None:
    with exclusive(Home(tmp_path).serve_lock), pytest.raises(HomeInUse, match=str(os.getpid())):
        serve({"APPSHELF_HOME": str(tmp_path)}, announce=refuse_to_speak)


def test_an_unknown_setting_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsRefused, match="APPSHELF_PORT"):
        serve({"APPSHELF_HOME": str(tmp_path), "APPSHELF_PORTS": "1"}, announce=refuse_to_speak)


def test_an_address_in_use_is_refused_and_no_key_is_made_for_it(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(AddressTaken, match=f"127.0.0.1:{port}.*--port"):
            serve({"APPSHELF_HOME": str(tmp_path), "APPSHELF_PORT": str(port)}, announce=refuse_to_speak)
    assert not Home(tmp_path).admin_key_file.exists()


def test_an_address_of_another_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AddressTaken):
        listen(settings(tmp_path, host="203.0.113.1"))


def test_workers_find_thread_counts_and_an_empty_folder_of_metrics(tmp_path: Path) -> None:
    (tmp_path / "metrics").mkdir()
    (tmp_path / "metrics" / "counter_1.db").touch()
    found = worker_environment(settings(tmp_path, torch_threads=3), Home(tmp_path))
    assert found["OMP_NUM_THREADS"] == "3"
    assert list(Path(found["PROMETHEUS_MULTIPROC_DIR"]).iterdir()) == []


def test_the_greeting_has_a_request_to_try_and_the_keys_place_but_not_the_key(tmp_path: Path) -> None:
    lines = "\n".join(greeting(settings(tmp_path, admin_key="secret"), Home(tmp_path), port=8011))
    assert "curl -s http://127.0.0.1:8011/rank" in lines
    assert "APPSHELF_ADMIN_KEY" in lines
    assert "secret" not in lines


def test_the_greeting_names_the_key_file_and_that_rank_needs_a_key(tmp_path: Path) -> None:
    lines = "\n".join(greeting(settings(tmp_path, rank_key="secret"), Home(tmp_path), port=8011))
    assert str(Home(tmp_path).admin_key_file) in lines
    assert "Authorization: Bearer" in lines
    assert "secret" not in lines


@contextmanager
def server(home: Path, *, workers: int) -> Iterator[tuple[psutil.Process, str]]:
    """A real server on a free port: its supervisor and its address."""
    command = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", "0"]
    environ = {**os.environ, "APPSHELF_HOME": str(home), "APPSHELF_WORKERS": str(workers)}
    with subprocess.Popen(
        command, env=environ, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as started:
        assert started.stderr is not None
        try:
            line = next(line for line in started.stderr if line.startswith("serving on "))
            yield psutil.Process(started.pid), line.split()[2]
        finally:
            started.terminate()


def within_limit(holds: Callable[[], bool]) -> bool:
    """Whether it comes to hold."""
    until = time.monotonic() + LIMIT_S
    while time.monotonic() < until:
        if holds():
            return True
        time.sleep(0.05)
    return False


def answers(url: str) -> bool:
    """Whether anything answers there, in whatever words."""
    try:
        return bool(urlopen(url, timeout=5).status)
    except HTTPError:
        return True
    except (URLError, OSError):
        return False


@pytest.mark.e2e
def test_every_worker_serves_the_live_version_and_the_metrics_are_summed(home: Path) -> None:
    with server(home, workers=2) as (_, url):
        for _ in range(20):
            question = Request(f"{url}/rank", b'{"user": {"id": "u1"}}', {"Content-Type": "application/json"})
            assert len(json.load(urlopen(question))["items"]) == 10
        text = urlopen(f"{url}/metrics").read().decode()
        assert 'appshelf_request_seconds_count{outcome="ok",route="/rank"} 20.0' in text


@pytest.mark.e2e
def test_a_home_without_a_version_is_served_as_not_ready(tmp_path: Path) -> None:
    with server(tmp_path / "home", workers=1) as (_, url):
        assert urlopen(f"{url}/livez").status == 200
        with pytest.raises(HTTPError, match="503"):
            urlopen(f"{url}/readyz")


@pytest.mark.e2e
def test_a_server_whose_first_worker_cannot_start_ends_with_its_reason(tmp_path: Path) -> None:
    Home(tmp_path).store.write_text("this is no store")
    command = [sys.executable, "-c", "from service.cli import main; main()", "serve", "--port", "0"]
    environ = {**os.environ, "APPSHELF_HOME": str(tmp_path)}
    ended = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=LIMIT_S, check=False)
    assert ended.returncode == 1
    assert str(Home(tmp_path).store) in ended.stderr
    assert "Traceback" not in ended.stderr
    assert ended.stderr.splitlines()[-1] == "appshelf: a worker could not start; its log lines above say why"


@pytest.mark.e2e
def test_workers_end_when_their_supervisor_is_killed_and_the_home_is_free_again(tmp_path: Path) -> None:
    home = tmp_path / "home"
    with server(home, workers=2) as (supervisor, url):
        workers = supervisor.children(recursive=True)
        supervisor.kill()
        assert within_limit(lambda: not any(worker.is_running() for worker in workers))
        assert not answers(f"{url}/livez")
    with exclusive(Home(home).serve_lock):
        pass


@pytest.mark.e2e
def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    with server(tmp_path / "home", workers=1) as (supervisor, url):
        (worker,) = (one for one in supervisor.children() if "resource_tracker" not in " ".join(one.cmdline()))
        worker.kill()
        assert within_limit(lambda: not worker.is_running() and answers(f"{url}/livez"))
