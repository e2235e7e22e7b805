"""Real Redis of more than one process: a cluster of three servers, and a master that a sentinel watches."""

import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path

from tests.redis_server import RedisServer, free_port, redis_server

MASTER = "appshelf-master"
CLUSTER_NODES = 3
FORM_LIMIT_S = 30.0


class Sentinel(RedisServer):
    """A sentinel that watches one master, on a free port of loopback."""

    def __init__(self, folder: Path, master: RedisServer) -> None:
        super().__init__(folder)
        self._master = master

    def _words(self) -> list[str]:
        config = self.folder / "sentinel.conf"  # which it rewrites as it learns
        config.write_text(f"sentinel monitor {MASTER} 127.0.0.1 {self._master.port} 1\n")
        return [str(config), "--sentinel"]


@contextmanager
def redis_cluster(folder: Path) -> Iterator[list[RedisServer]]:
    """The servers of a cluster that covers every slot, ended with the block."""
    options = {"cluster-enabled": "yes", "appendfsync": "no"}
    with ExitStack() as servers:
        nodes = []
        for number in range(CLUSTER_NODES):
            bus = {"cluster-port": str(free_port())}
            nodes.append(servers.enter_context(redis_server(folder / str(number), options=options | bus)))
        places = [f"127.0.0.1:{node.port}" for node in nodes]
        form = ["redis-cli", "--cluster", "create", *places, "--cluster-yes"]
        subprocess.run(form, check=True, stdout=subprocess.DEVNULL, timeout=FORM_LIMIT_S)
        for node in nodes:
            _await(partial(_covered, node))
        yield nodes


@contextmanager
def redis_sentinel(folder: Path) -> Iterator[tuple[RedisServer, Sentinel]]:
    """A master and the sentinel that watches it, both ended with the block."""
    with redis_server(folder / "master") as master, watching(folder / "sentinel", master) as sentinel:
        yield master, sentinel


@contextmanager
def watching(folder: Path, master: RedisServer) -> Iterator[Sentinel]:
    """A started sentinel, ended with the block."""
    sentinel = Sentinel(folder, master)
    sentinel.start()
    try:
        yield sentinel
    finally:
        sentinel.stop()


def cluster_url(nodes: list[RedisServer]) -> str:
    """Where clients find a cluster."""
    return f"redis+cluster://{','.join(f'127.0.0.1:{node.port}' for node in nodes)}"


def sentinel_url(sentinel: Sentinel) -> str:
    """Where clients find the master that a sentinel watches."""
    return f"redis+sentinel://127.0.0.1:{sentinel.port}/{MASTER}/0"


def _covered(node: RedisServer) -> bool:
    with node.client() as client:
        known = client.execute_command("CLUSTER INFO")
    return bool(known["cluster_state"] == "ok" and int(known["cluster_known_nodes"]) == CLUSTER_NODES)


def _await(true: Callable[[], bool]) -> None:
    until = time.monotonic() + FORM_LIMIT_S
    while not true():
        if time.monotonic() > until:
            raise RuntimeError(f"the cluster did not form within {FORM_LIMIT_S:.0f} s")
        time.sleep(0.05)
