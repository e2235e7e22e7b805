"""Who is measured: appshelf in both precisions and the peers, each as two workers of one thread."""

import ctypes.util
import http.client
import os
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from bench.environments import FASTAPI_TORCH, LITSERVE, OPENVINO, ROOT, Environment
from bench.processes import Family
from bench.reference import Reference
from bench.server import Home, free_port, verb

WORKERS = 2
START_LIMIT_S = 600.0
END_LIMIT_S = 15.0
PAUSE_S = 0.02
THREADS = {name: "1" for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")}
SETTINGS = {
    "APPSHELF_WORKERS": str(WORKERS),
    "APPSHELF_TORCH_THREADS": "1",
    "APPSHELF_SHED_AFTER_S": "30",  # peers let everybody wait, so this one does too
    "APPSHELF_RANK_BUDGET_S": "30",
    "APPSHELF_LOG_LEVEL": "warning",  # as the peers' access logs are off
}


@dataclass(frozen=True)
class Peer:
    """How a peer is started. words: after its interpreter, `{port}` for the port."""

    environment: Environment
    words: tuple[str, ...]


@dataclass(frozen=True)
class Contestant:
    """One server with one precision. peer: None for appshelf; bits: of the tower's numbers, 32 or 16.

    allocator: a library of the system that the server starts with in place of the C library's malloc.
    """

    name: str
    bits: int
    peer: Peer | None = None
    allocator: str = ""

    @property
    def ours(self) -> bool:
        """Whether it is appshelf."""
        return self.peer is None

    @property
    def preload(self) -> dict[str, str]:
        """What its environment needs for its allocator. Raises RuntimeError where the system has none of that name."""
        if not self.allocator:
            return {}
        library = ctypes.util.find_library(self.allocator)
        if library is None:
            raise RuntimeError(f"{self.name} needs lib{self.allocator}, which is not installed; install or omit it")
        return {"LD_PRELOAD": library}


def _uvicorn(factory: str) -> tuple[str, ...]:
    served = ("-m", "uvicorn", "--factory", factory, "--workers", str(WORKERS), "--port", "{port}")
    return (*served, "--no-access-log", "--log-level", "warning")


_INLINE = Peer(FASTAPI_TORCH, _uvicorn("bench.peers.fastapi_torch:inline"))
_THREADED = Peer(FASTAPI_TORCH, _uvicorn("bench.peers.fastapi_torch:threaded"))
_OPENVINO = Peer(OPENVINO, _uvicorn("bench.peers.fastapi_openvino:create_app"))
_LITSERVE = Peer(LITSERVE, ("-m", "bench.peers.litserve_torch", "{port}"))

CONTESTANTS = (
    Contestant("fast", 16),
    Contestant("exact", 32),
    Contestant("fast-jemalloc", 16, allocator="jemalloc"),
    Contestant("exact-jemalloc", 32, allocator="jemalloc"),
    Contestant("fastapi-async", 32, _INLINE),
    Contestant("fastapi-def", 32, _THREADED),
    Contestant("openvino", 32, _OPENVINO),
    Contestant("openvino-bf16", 16, _OPENVINO),
    Contestant("litserve", 32, _LITSERVE),
    Contestant("litserve-bf16", 16, _LITSERVE),
)


@dataclass(frozen=True)
class Running:
    """A server that has given its first answer, start_s after it was started."""

    port: int
    family: Family
    start_s: float


@contextmanager
def running(contestant: Contestant, reference: Reference, *, cache: Path) -> Iterator[Running]:
    """The server, ended with SIGTERM and, where that does not do, with SIGKILL, its children too.

    Raises RuntimeError where it ends or does not answer within START_LIMIT_S; what it prints goes to a file in `cache`.
    """
    port, first = free_port(), reference.bodies(50)[0]
    words, environ = _command(contestant, reference, port=port, cache=cache)
    printed = cache / f"{contestant.name}.log"
    with printed.open("w", encoding="utf-8") as out:
        began = time.monotonic()
        process = subprocess.Popen(words, env=environ, cwd=ROOT, stdout=out, stderr=out)
    root = psutil.Process(process.pid)
    try:
        if not _answers(process, lambda: ask(port, first)[0] == 200):
            raise RuntimeError(f"no answer within {START_LIMIT_S:.0f} s, ended with {process.poll()}; see {printed}")
        yield Running(port, Family(root), time.monotonic() - began)
    finally:
        _end(root)
        process.wait()


def _command(
    contestant: Contestant, reference: Reference, *, port: int, cache: Path
) -> tuple[list[str], Mapping[str, str]]:
    if contestant.peer is None:
        for file in reference.root.glob("log.sqlite*"):
            file.unlink()  # every run logs what it shows into an empty log
        precision = "fast" if contestant.bits == 16 else "exact"
        more = SETTINGS | {"APPSHELF_PRECISION": precision} | contestant.preload
        return verb("serve"), Home(reference.root, port, more).environ
    own = {"PEER_FOLDER": str(reference.peers), "PEER_PRECISION": "fp32" if contestant.bits == 32 else "bf16"}
    python = contestant.peer.environment.python(cache)
    words = [word.format(port=port) for word in contestant.peer.words]
    return [str(python), *words], {**os.environ, **own, **THREADS}


def ask(port: int, body: bytes) -> tuple[int, bytes]:
    """Status and content of one `/rank` on a connection of its own. Raises OSError."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", "/rank", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _answers(process: "subprocess.Popen[bytes]", answers: Callable[[], bool]) -> bool:
    until = time.monotonic() + START_LIMIT_S
    while time.monotonic() < until and process.poll() is None:
        with suppress(OSError, http.client.HTTPException):
            if answers():
                return True
        time.sleep(PAUSE_S)
    return False


def _end(root: psutil.Process) -> None:
    family = [root, *root.children(recursive=True)] if root.is_running() else []
    with suppress(psutil.NoSuchProcess):
        root.terminate()
    _, left = psutil.wait_procs(family, timeout=END_LIMIT_S)
    for process in left:
        with suppress(psutil.NoSuchProcess):
            process.kill()
