"""What the supervisor makes of workers that are slow to start; the workers are played by the tests."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from multiprocessing.context import SpawnProcess
from types import SimpleNamespace
from typing import cast

import pytest
from uvicorn import Config
from uvicorn.supervisors.multiprocess import SIGNALS, Process

from service.supervisor import Supervisor, Worker

PATIENCE_S = 20.0

Begun = Callable[[Process], tuple[Supervisor, list[str]]]


class Starting(Process):
    """A worker that lives as long as `lives` says; `looked` is called each time that it is asked whether it serves."""

    def __init__(self, looked: Callable[[], bool], *, lives: bool = True) -> None:
        self.process = cast(SpawnProcess, SimpleNamespace(is_alive=lambda: lives))
        self._looked = looked

    def is_ready(self, timeout: float = 5) -> bool:
        return self._looked()

    def terminate(self) -> None: ...

    def kill(self) -> None: ...

    def join(self) -> None: ...


@pytest.fixture(autouse=True)
def signals_as_before() -> Iterator[None]:
    former = {number: signal.getsignal(number) for number in SIGNALS}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> Iterator[Begun]:
    """A supervisor that has begun with this worker, and what it said."""
    said: list[str] = []
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        config = Config("nothing:here", log_config=None)
        supervisor = Supervisor(config, listener, start_s=PATIENCE_S, when_ready=lambda: said.append("ready"))

        def begin(worker: Process) -> tuple[Supervisor, list[str]]:
            monkeypatch.setattr(supervisor, "_started", lambda: worker)
            supervisor.init_processes()
            return supervisor, said

        yield begin
        supervisor.terminate_all()


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_end_is_heard_while_the_workers_start(begun: Begun, ending: signal.Signals) -> None:
    def told_to_end() -> bool:
        signal.raise_signal(ending)
        return False

    supervisor, said = begun(Starting(told_to_end))
    assert supervisor.should_exit.is_set()
    assert (supervisor.signal_queue, supervisor.failed, said) == ([ending], False, [])


def test_a_worker_that_lives_is_waited_for_until_it_serves(begun: Begun) -> None:
    looks = iter([False, False, True])
    supervisor, said = begun(Starting(lambda: next(looks)))
    assert (supervisor.should_exit.is_set(), supervisor.failed, said) == (False, False, ["ready"])


def test_a_first_worker_that_ends_is_a_failure_whatever_else_was_asked_for(begun: Begun) -> None:
    signal.raise_signal(signal.SIGHUP)
    supervisor, said = begun(Starting(lambda: False, lives=False))
    assert (supervisor.should_exit.is_set(), supervisor.failed, said) == (True, True, [])


def test_of_a_worker_that_ended_no_sign_is_waited_for() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        worker = Worker(Config("nothing:here", log_config=None), [theirs])
        worker.start()
        worker.join()
        assert worker.parent_conn.poll(0)  # its end is seen
        worker.kill()


def test_a_worker_that_ends_as_it_starts_is_not_started_again_at_once(begun: Begun) -> None:
    young = Worker.__new__(Worker)
    young.began = float("inf")  # just now, for however long this test takes
    young.process = cast(SpawnProcess, SimpleNamespace(is_alive=lambda: False, exitcode=1))
    supervisor, _ = begun(Starting(lambda: True))
    supervisor.processes = [young]
    supervisor.keep_subprocess_alive()
    assert supervisor.processes == [young]


@pytest.mark.parametrize(
    ("code", "told"),
    [(-9, "ended by signal 9"), (3, "ended by itself with exit code 3"), (None, "gave no sign for 7 s and is killed")],
)
def test_how_a_worker_ended_is_an_error_in_the_log(
    begun: Begun, caplog: pytest.LogCaptureFixture, code: int | None, told: str
) -> None:
    worker = Starting(lambda: True)
    supervisor, _ = begun(worker)
    supervisor.config.timeout_worker_healthcheck = 7
    worker.process = cast(SpawnProcess, SimpleNamespace(pid=11, exitcode=code, is_alive=lambda: False))
    supervisor.keep_subprocess_alive()
    (line,) = [record for record in caplog.records if record.name == "service.supervisor"]
    assert (line.levelname, told in line.getMessage()) == ("ERROR", True)
