"""A redis-server of a benchmark's own, with the durability that the deployment asks of it."""

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from bench.server import free_port

START_LIMIT_S = 20


@contextmanager
def redis_url(folder: Path, *, sync: str) -> Iterator[str]:
    """The URL of a started server on loopback, ended with the block; sync: its appendfsync, `always` or `everysec`."""
    port = free_port()
    words = ["--dir", str(folder), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes", "--appendfsync", sync]
    process = subprocess.Popen(["redis-server", "--port", str(port), *words], stdout=subprocess.DEVNULL)
    try:
        _await_answer(port)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        process.terminate()
        process.wait(60)


def _await_answer(port: int) -> None:
    until = time.monotonic() + START_LIMIT_S
    with Redis(port=port) as client:
        while time.monotonic() < until:
            try:
                client.ping()
                return
            except RedisError:
                time.sleep(0.05)
    raise RuntimeError(f"the redis-server on port {port} did not answer within {START_LIMIT_S} s")
