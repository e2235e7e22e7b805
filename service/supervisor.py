"""The process above the workers: starts them, restarts one that dies, and spreads the connections over them."""

import logging
import os
import resource
import signal
import socket
import time
from collections.abc import Callable, Sequence
from threading import Event

from uvicorn import Config, Server
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from service.doorman import Doorman
from service.place import Place
from service.reception import Reception

OWN_FILES = 128
AGAIN_AFTER_S = 2.0
"""From one start of a worker to the next of its successor, so that what fails at its start at once is not all we do."""
ENDINGS = frozenset({signal.SIGINT, signal.SIGTERM})

log = logging.getLogger(__name__)


class Ending(Event):
    """Set where this server is to end, from the moment that a signal says so, though it is handled only later."""

    def __init__(self, signals: Sequence[int]) -> None:
        super().__init__()
        self._signals = signals

    def is_set(self) -> bool:
        """True where it was set, or a signal that will set it waits."""
        return super().is_set() or not ENDINGS.isdisjoint(self._signals)


class Worker(Process):
    """A worker process, whose server is handed its connections."""

    began = float("-inf")

    def start(self) -> None:
        """Begin it, and leave its end of the pipe to it, so that a dead one is not waited for as a slow one is."""
        self.began = time.monotonic()
        super().start()
        self.child_conn.close()

    @property
    def server(self) -> Server:
        """The server of this process."""
        if self._server is None:
            self._server = Reception(self.config, clock=time.monotonic)
        return self._server


class Supervisor(Multiprocess):
    """uvicorn's supervisor, with a doorman at its listening socket.

    It says when its first workers serve, and gives up where one of those cannot. A later worker that cannot start, as
    when the disk is full, is started again and again while the others serve. SIGHUP replaces the workers one by one,
    SIGTTIN adds one, SIGTTOU takes one away. start_s: how long a worker that lives may take until it serves.
    """

    def __init__(
        self, config: Config, listener: socket.socket, *, start_s: float, when_ready: Callable[[], None]
    ) -> None:
        super().__init__(config, [])
        self.should_exit = Ending(self.signal_queue)
        self._start_s = start_s
        self._when_ready = when_ready
        self._doorman = Doorman(listener, room=most_connections(), clock=time.monotonic)
        self.failed = False

    def init_processes(self) -> None:
        """Start the workers and wait until they serve, or one of them cannot."""
        self._doorman.start()
        self.processes += [self._started() for _ in range(self.processes_num)]
        ready = all(process.wait_until_ready(self._start_s, self.should_exit) for process in self.processes)
        if ready and self._doorman.alive:
            self._when_ready()
        elif not self.should_exit.is_set():
            self.failed = True
            self.should_exit.set()

    def keep_subprocess_alive(self) -> None:
        """Start another worker for each that died or hangs."""
        if not self._doorman.alive:
            log.critical("connections are no longer accepted, so this server ends")
            self.failed = True
            self.should_exit.set()
        for place, process in enumerate(self.processes):
            if self.should_exit.is_set():
                return
            if not process.is_alive(timeout=self.config.timeout_worker_healthcheck):
                if isinstance(process, Worker) and time.monotonic() < process.began + AGAIN_AFTER_S:
                    continue
                ending = self._ending_of(process)
                process.kill()
                process.join()
                log.error("worker %s %s, and another is started in its place", process.pid, ending)
                self.processes[place] = self._started()

    def restart_all(self) -> None:
        """Replace the workers one by one, each when its successor serves; where one cannot, the others stay."""
        for place, old in enumerate(self.processes):
            new = self._started()
            if not new.wait_until_ready(self._start_s, self.should_exit):
                new.kill()
                new.join()
                if not self.should_exit.is_set():
                    log.error("worker %s did not serve in time; %s and those after it stay", new.pid, old.pid)
                return
            self.processes[place] = new
            old.terminate()
            old.join()

    def handle_ttin(self) -> None:
        """One worker more."""
        self.processes_num += 1
        self.processes.append(self._started())

    def terminate_all(self) -> None:
        """Accept nothing more, then ask the workers to end."""
        self._doorman.close()
        super().terminate_all()

    def _ending_of(self, process: Process) -> str:
        """How a worker that is to be replaced has ended, or that it is stuck."""
        code = process.exitcode
        if code is None:
            return f"gave no sign for {self.config.timeout_worker_healthcheck} s and is killed"
        return f"was ended by signal {-code}" if code < 0 else f"ended by itself with exit code {code}"

    def _started(self) -> Worker:
        ours, theirs = socket.socketpair()
        process = Worker(self.config, [theirs])
        process.start()
        self._doorman.seat(Place((ours, theirs), os.dup(process.process.sentinel)))
        return process


def most_connections() -> int:
    """How many connections a process may have open beside its own files."""
    allowed, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return allowed - min(OWN_FILES, allowed // 2)
