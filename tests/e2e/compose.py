"""`docker-compose.yml` for real: a project of its own, on a free port, with new volumes that go when it does.

Where no container engine answers the tests that need one are skipped; under CI=true that is a failure instead.
"""

import json
import os
import re
import secrets
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.architecture import ROOT
from tests.redis_server import free_port

IMAGE, BASE = "appshelf:latest", "python:3.11-slim-bookworm"
WINDOW_S = 30.0
"""The attribution window: long enough that a slow machine's events are in time, short enough to wait for its end."""

BUILD_S, COMMAND_S, READY_S = 1200.0, 300.0, 600.0
KEY = re.compile(r"admin key, shown this once: (\S+)")
ASK_VERSION = """
import http.client, json
def ask():
    api = http.client.HTTPConnection("127.0.0.1", 8000, timeout=10)
    api.request("GET", "/version")
    return json.load(api.getresponse())["live"]
print(json.dumps([ask() for _ in range(10)]))
"""


@dataclass(frozen=True)
class Stack:
    """One project of compose. tool: how compose is called here."""

    tool: tuple[str, ...]
    project: str
    port: int

    @property
    def url(self) -> str:
        """The one address that is published."""
        return f"http://127.0.0.1:{self.port}"

    def compose(self, *words: str, limit_s: float = COMMAND_S) -> str:
        """What a verb of compose prints. Raises AssertionError with what it said where it fails."""
        return run(*self.tool, "-p", self.project, *words, environment=self._environment(), limit_s=limit_s)

    def containers(self, role: str) -> list[str]:
        """The ids of a role's running containers."""
        return self.compose("ps", "-q", role).split()

    def logs(self, role: str) -> str:
        """What a role's containers have printed."""
        return self.compose("logs", "--no-color", role)

    def client(self, key: str | None = None) -> httpx.Client:
        """A client of the published address."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.url, headers=headers, timeout=120)

    def ranks(self) -> bool:
        """Whether some api has a version to rank with."""
        try:
            return httpx.get(f"{self.url}/readyz", timeout=10).status_code == 200
        except httpx.HTTPError:
            return False

    def await_ready(self) -> None:
        """Return when every role is healthy and rankings are answered. Raises AssertionError with the logs."""
        if not soon(self._healthy) or not soon(self.ranks):
            raise AssertionError(
                f"the project is not ready after {READY_S:.0f} s:\n{self.compose('logs', '--tail=60')}"
            )

    def _healthy(self) -> bool:
        watched = [*self.containers("api"), *self.containers("redis"), *self.containers("nginx")]
        return all(state(one).get("Health", {}).get("Status") == "healthy" for one in watched)

    def _environment(self) -> dict[str, str]:
        """The caller's variables without any setting, so that the file's own stand, but for the port and a window."""
        own = {name: value for name, value in os.environ.items() if not name.startswith(("APPSHELF_", "COMPOSE_"))}
        return own | {"PUBLISH_PORT": str(self.port), "APPSHELF_ATTRIBUTION_WINDOW_S": str(WINDOW_S)}


@contextmanager
def stack() -> Iterator[Stack]:
    """A project built and brought up from nothing; all that it made is taken away at the end."""
    made = Stack(require_engine(), f"appshelf-test-{secrets.token_hex(3)}", free_port())
    try:
        made.compose("build", limit_s=BUILD_S)
        made.compose("up", "-d")
        yield made
    finally:
        made.compose("down", "--volumes", "--remove-orphans", "--timeout", "5")


def require_engine() -> tuple[str, ...]:
    """How compose is called. Skips the test, saying why, where that or an engine is missing; fails it under CI=true."""
    reason = "no container engine answers (`docker version`)"
    if works("docker", "version"):
        for tool in [("docker", "compose"), ("docker-compose",)]:
            if works(*tool, "version"):
                return tool
        reason = "neither `docker compose` nor `docker-compose` is installed"
    if os.environ.get("CI") == "true":
        pytest.fail(f"{reason}, and in CI these tests are not skipped")
    pytest.skip(reason)


def works(*command: str) -> bool:
    """Whether a command is there and succeeds."""
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def run(*command: str, environment: dict[str, str] | None = None, limit_s: float = COMMAND_S) -> str:
    """What a command prints. Raises AssertionError with what it said where it fails."""
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=limit_s
    )
    assert ended.returncode == 0, f"{' '.join(command)}:\n{ended.stdout[-2000:]}\n{ended.stderr[-4000:]}"
    return ended.stdout


def inspect(thing: str) -> dict[str, Any]:
    """What the engine knows of a container or an image."""
    (known,) = json.loads(run("docker", "inspect", thing))
    return dict(known)


def state(container: str) -> dict[str, Any]:
    """How a container is: running, its exit code, its health, when it was started."""
    return dict(inspect(container)["State"])


def live_versions(container: str) -> set[str]:
    """What the processes of one api container say is live, over ten connections."""
    return set(json.loads(run("docker", "exec", container, "python", "-c", ASK_VERSION)))


def crash(container: str) -> None:
    """End a container's processes as kill -9 does, from within, so that the engine restarts it as after a crash."""
    began = state(container)["StartedAt"]
    subprocess.run(
        ["docker", "exec", container, "sh", "-c", "kill -9 -1"], capture_output=True, check=False, timeout=60
    )
    assert soon(lambda: state(container)["StartedAt"] != began), f"{container} was not started again"


def soon(true: Callable[[], bool], *, patience_s: float = READY_S) -> bool:
    """Whether it comes true within the time given."""
    give_up = time.monotonic() + patience_s
    while not (came := true()) and time.monotonic() < give_up:
        time.sleep(0.5)
    return came
