"""A real server: `appshelf serve` in processes of its own, talked to over HTTP."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

from tests.service.store_front import ADMIN_KEY

ROOT = Path(__file__).parent.parent.parent
START_S = 120.0
END_S = 60.0
ADDRESS = re.compile(r"serving on (http://\S+)")
APPSHELF = [sys.executable, "-c", "from service.cli import main; main()"]


@dataclass(frozen=True)
class Server:
    """A running server: its home, its supervisor, where it listens, and what it has printed."""

    home: Path
    process: subprocess.Popen[bytes]
    url: str
    output: Path

    def client(self) -> httpx.Client:
        """A client with the admin key."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {ADMIN_KEY}"}, timeout=60)

    def workers(self) -> list[psutil.Process]:
        """Its serving processes: the children that hold threads of their own beside a spawn's resource tracker."""
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if _is_worker(child)]

    def stop(self) -> int:
        """Ask it to end, and its exit code."""
        self.process.terminate()
        return self.process.wait(END_S)


def _is_worker(child: psutil.Process) -> bool:
    try:
        return "spawn_main" in " ".join(child.cmdline())
    except psutil.NoSuchProcess:  # it has just ended
        return False


@contextmanager
def running(home: Path, *, workers: int = 1, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """A server on this home, ready; settings: further variables, such as {"APPSHELF_REDIS_URL": ...}."""
    output = home.parent / f"{home.name}.{time.monotonic_ns()}.log"
    with output.open("wb") as log:
        process = start(home, log=log.fileno(), workers=workers, settings=settings)
    try:
        yield Server(home, process, _address(process, output), output)
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(END_S)


def start(
    home: Path, *, log: int, workers: int = 1, settings: Mapping[str, str] | None = None
) -> subprocess.Popen[bytes]:
    """`appshelf serve` on any free port."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("APPSHELF_")}
    environment |= {"APPSHELF_HOME": str(home), "APPSHELF_ADMIN_KEY": ADMIN_KEY, "PYTHONPATH": str(ROOT)}
    environment |= settings or {}
    command = [*APPSHELF, "serve", "--port", "0", "--workers", str(workers)]
    return subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def _address(process: subprocess.Popen[bytes], output: Path) -> str:
    """Where it listens, once it says so."""
    give_up = time.monotonic() + START_S
    while time.monotonic() < give_up and process.poll() is None:
        if found := ADDRESS.search(output.read_text()):
            return found[1]
        time.sleep(0.05)
    raise AssertionError(f"the server did not start:\n{output.read_text()}")
