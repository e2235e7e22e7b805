"""A real redis-server of a test's own, which can be killed, paused, filled and started again.

Where redis-server is not installed the tests that need one are skipped; under CI=true that is a failure instead.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

PROGRAM = "redis-server"
START_LIMIT_S = 20.0

DURABLE = {"appendonly": "yes", "appendfsync": "always", "save": ""}
"""What the deployment asks of its Redis: a write is on disk before it is answered."""


class RedisServer:
    """One redis-server on a free port of loopback, its files in `folder`; not started until `start`.

    options: redis.conf's names and values over DURABLE, such as {"maxmemory": "3mb"}; an empty value is passed as "".
    """

    def __init__(self, folder: Path, *, options: Mapping[str, str] | None = None) -> None:
        self.port = free_port()
        self.folder = folder
        self._options = DURABLE | dict(options or {})
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients find it; the same after a restart."""
        return f"redis://127.0.0.1:{self.port}/0"

    @property
    def running(self) -> bool:
        """True between a start and the end of the process."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start it on what its folder holds, and return when it answers. Raises RuntimeError where it does not."""
        require_redis()
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [PROGRAM, *self._words(), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._await_answer()

    def kill(self) -> None:
        """End it as kill -9 does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order, whatever state it is in; nothing where it has ended."""
        if self.running:
            self.resume()
            self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Keep its connections open and answer nothing on them."""
        self._process_running().send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Answer again, what was sent meanwhile first."""
        self._process_running().send_signal(signal.SIGCONT)

    def client(self) -> "redis.Redis":
        """A plain client for a test to look behind the curtain; the caller closes it."""
        password = self._options.get("requirepass")
        return redis.Redis(port=self.port, password=password, socket_timeout=5.0, decode_responses=True)

    def _words(self) -> list[str]:
        return [word for name, value in self._options.items() for word in (f"--{name}", value)]

    def _process_running(self) -> "subprocess.Popen[bytes]":
        if self._process is None:
            raise RuntimeError(f"the redis-server of {self.folder} was never started")
        return self._process

    def _end(self, how: signal.Signals) -> None:
        process = self._process_running()
        process.send_signal(how)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _await_answer(self) -> None:
        until = time.monotonic() + START_LIMIT_S
        with self.client() as client:
            while time.monotonic() < until and self.running:
                try:
                    client.ping()
                    return
                except redis.RedisError:  # not listening yet, or still reading its append-only file
                    time.sleep(0.01)
        raise RuntimeError(f"the redis-server of {self.folder} did not answer within {START_LIMIT_S:.0f} s")


@contextmanager
def redis_server(folder: Path, *, options: Mapping[str, str] | None = None) -> Iterator[RedisServer]:
    """A started server, ended with the block."""
    server = RedisServer(folder, options=options)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def require_redis() -> None:
    """Skip the test, saying why, where redis-server is not installed; fail it there under CI=true."""
    if shutil.which(PROGRAM) is not None:
        return
    reason = f"{PROGRAM} is not installed; Debian's package of that name has it"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI these tests are not skipped")
    pytest.skip(reason)


def free_port() -> int:
    """A port of loopback that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
