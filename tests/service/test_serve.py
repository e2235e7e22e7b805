"""What `appshelf serve` checks and prepares."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from service.api.app import BODY_WITHIN_S
from service.errors import BindRefused, HomeGone, HomeInUse, SettingsRefused
from service.home import Home, exclusive
from service.serve import (
    DRAIN_S,
    YOUNG_OBJECTS,
    AddressTaken,
    greeting,
    job_worker,
    listen,
    metrics_folder,
    refuse_vanished,
    serve,
    supervise,
    worker_environment,
)
from service.settings import Settings
from service.settings_file import write_settings
from tests.e2e.server import END_S, running, start


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
    with metrics_folder(settings(tmp_path), Home(tmp_path)) as folder:
        found = worker_environment(settings(tmp_path, torch_threads=3), folder)
    assert found["OMP_NUM_THREADS"] == "3"
    assert found["PROMETHEUS_MULTIPROC_DIR"] == str(tmp_path / "metrics")
    assert list(folder.iterdir()) == []


def test_workers_keep_the_settings_of_the_servers_start_when_the_file_is_edited(tmp_path: Path) -> None:
    write_settings(tmp_path, {"batch_limit": 4, "rank_key": "secret", "allow_public": True})
    environ = {"APPSHELF_HOME": str(tmp_path), "APPSHELF_POLL_S": "0.3"}
    started = Settings.from_env(environ)

    environ.update(worker_environment(started, tmp_path))
    write_settings(tmp_path, {"batch_limit": 9, "rank_key": "other", "allow_public": False, "max_k": 7})
    assert Settings.from_env(environ).model_dump() == started.model_dump()


def test_a_worker_may_take_as_long_to_start_as_to_prepare_a_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Recorded:
        failed = False
        start_s = 0.0

        def __init__(self, *_: object, start_s: float, when_ready: object) -> None:
            Recorded.start_s = start_s

        def run(self) -> None: ...

    monkeypatch.setattr("service.serve.Supervisor", Recorded)
    monkeypatch.setattr("service.serve.log_to_stdout", lambda _: None)
    with socket.socket() as listener:
        supervise(settings(tmp_path, rollout_deadline_s=700), listener, when_ready=lambda: None)
    assert Recorded.start_s == 700


def test_with_redis_servers_share_a_home_and_no_metrics_and_leave_the_jobs_to_a_fleets_workers(tmp_path: Path) -> None:
    fleet = settings(tmp_path, redis_url="redis://127.0.0.1:1/0")
    with metrics_folder(fleet, Home(tmp_path)) as one, metrics_folder(fleet, Home(tmp_path)) as other:
        assert one != other
        assert tmp_path not in one.parents
    assert not one.exists()
    assert job_worker(fleet, {}) is None


def test_with_the_embedded_store_a_server_has_a_job_worker_which_counts_nothing(tmp_path: Path) -> None:
    assert job_worker(settings(tmp_path), {"PROMETHEUS_MULTIPROC_DIR": "somewhere"}) is not None


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


@pytest.mark.e2e
def test_a_home_without_a_version_is_served_as_not_ready(tmp_path: Path) -> None:
    with running(tmp_path / "home") as server, server.client() as client:
        assert client.get("/livez").status_code == 200
        assert client.get("/readyz").status_code == 503


@pytest.mark.e2e
def test_a_server_whose_first_worker_cannot_start_ends_with_its_reason(tmp_path: Path) -> None:
    Home(tmp_path).store.write_text("this is no store")
    output, _ = (process := start(tmp_path, log=subprocess.PIPE)).communicate(timeout=END_S)
    assert process.returncode == 1
    assert str(Home(tmp_path).store) in output.decode()
    assert "Traceback" not in output.decode()
    assert "a worker could not start" in output.decode().splitlines()[-1]


def test_a_body_that_is_slow_is_refused_before_a_worker_that_leaves_ends_without_an_answer() -> None:
    assert BODY_WITHIN_S < DRAIN_S


WORKER = """
import gc
from service.serve import worker
application = worker()
print(gc.get_freeze_count(), len(gc.get_objects()), gc.get_threshold()[0], int(gc.isenabled()))
"""


def test_no_search_for_cycles_goes_through_what_lives_as_long_as_a_worker(tmp_path: Path) -> None:
    environ = {**os.environ, "APPSHELF_HOME": str(tmp_path), "APPSHELF_ADMIN_KEY": "the admin key"}
    done = subprocess.run([sys.executable, "-c", WORKER], env=environ, capture_output=True, text=True, check=True)
    passed_over, searched, young, is_searched = map(int, done.stdout.split())
    assert passed_over > 100_000 > 100 * searched
    assert young == YOUNG_OBJECTS
    assert is_searched


def test_a_worker_makes_no_empty_home_where_that_of_its_server_is_gone(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    environ = {"APPSHELF_HOME": str(home.root)}
    home.ensure()
    with exclusive(home.serve_lock):
        refuse_vanished(environ)
        home.root.rename(tmp_path / "moved")
        with pytest.raises(HomeGone, match="mount it or move it back"):
            refuse_vanished(environ)
        home.root.mkdir()  # as the place is where a disk was mounted
        with pytest.raises(HomeGone, match=home.serve_lock.name):
            refuse_vanished(environ)
    refuse_vanished({**environ, "APPSHELF_REDIS_URL": "redis://127.0.0.1"})  # many servers may share what is no store
