"""A real `appshelf serve` on a home of the benchmark's own, and keep-alive clients that talk to it."""

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

ADMIN_KEY = "bench-admin-key"
START_LIMIT_S = 180


@dataclass(frozen=True)
class Home:
    """Where the benchmark's store, bundles and server live, and how to run a verb on it."""

    root: Path
    port: int
    more: Mapping[str, str] = field(default_factory=dict)

    @property
    def environ(self) -> dict[str, str]:
        """The environment of every process of this home; `more` holds further settings."""
        own = {"APPSHELF_HOME": str(self.root), "APPSHELF_ADMIN_KEY": ADMIN_KEY, "APPSHELF_PORT": str(self.port)}
        return (
            {name: value for name, value in os.environ.items() if not name.startswith("APPSHELF_")}
            | own
            | dict(self.more)
        )

    def appshelf(self, *words: str) -> str:
        """Run one verb and return what it printed. Raises CalledProcessError where it refused."""
        done = subprocess.run(verb(*words), env=self.environ, check=True, stdout=subprocess.PIPE, text=True)
        return done.stdout


def verb(*words: str) -> list[str]:
    """The command line of one verb, on this interpreter."""
    return [sys.executable, "-c", "from service.cli import main; main()", *words]


def free_port() -> int:
    """A port of the loopback interface that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(home: Home, *, workers: int, within_s: float = START_LIMIT_S) -> Iterator[psutil.Process]:
    """A server that is ready, ended with SIGTERM. Raises RuntimeError where it is not within that time."""
    process = subprocess.Popen(verb("serve", "--workers", str(workers)), env=home.environ, stdout=subprocess.DEVNULL)
    try:
        _await_ready(home, process, within_s)
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)


def _await_ready(home: Home, process: subprocess.Popen[bytes], within_s: float) -> None:
    until = time.monotonic() + within_s
    while time.monotonic() < until and process.poll() is None:
        try:
            if Client(home.port).call("GET", "/readyz")[0] == 200:
                return
        except OSError:
            pass
        time.sleep(0.1)
    how = f"ended with {code}" if (code := process.poll()) is not None else f"was not ready within {within_s:.0f} s"
    raise RuntimeError(f"the server on port {home.port} {how}")


class Client:
    """One keep-alive connection."""

    def __init__(self, port: int, *, timeout_s: float = 60.0) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout_s)

    def call(self, method: str, path: str, body: Mapping[str, Any] | None = None) -> tuple[int, Any]:
        """Status and decoded body. Raises OSError where the connection fails."""
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {ADMIN_KEY}"}
        self._connection.request(method, path, json.dumps(body) if body is not None else None, headers)
        response = self._connection.getresponse()
        content = response.read()
        return response.status, json.loads(content) if content else None


def resident_mib(process: psutil.Process) -> float:
    """Resident memory of a process and all below it."""
    family = [process, *process.children(recursive=True)]
    return float(sum(one.memory_info().rss for one in family)) / 2**20
