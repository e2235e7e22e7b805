"""Talking to the application without a socket, and what every answer that is an error must look like."""

import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from service.api.app import create_app
from service.container import Container
from service.keys import Keys
from tests.service.store_front import ADMIN_KEY

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # starlette would rather have httpx2
    from starlette.testclient import TestClient as Client

if TYPE_CHECKING:
    from httpx import Response

__all__ = ["ADMIN", "JSON", "Client", "pointers", "problem", "serving", "soon"]

ADMIN = {"Authorization": f"Bearer {ADMIN_KEY}"}
JSON = {"Content-Type": "application/json"}


@contextmanager
def serving(container: Container) -> Iterator[Client]:
    """A client of this container's application while it runs."""
    keys = Keys.load(container.settings, container.home, announce=lambda _: None)
    with Client(create_app(container, keys), raise_server_exceptions=False) as client:
        yield client


def problem(response: "Response", status: int) -> dict[str, Any]:
    """The problem that an answer holds, after a look at what RFC 9457 and our contract ask of each."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = response.json()
    assert {"type", "title", "status", "detail", "instance", "request_id", "errors"} <= found.keys()
    assert found["status"] == status
    assert found["request_id"] == response.headers["x-request-id"]
    assert found["detail"]
    return found


def pointers(response: "Response", status: int = 422) -> list[str]:
    """Where the values stand that were refused."""
    return [one["pointer"] for one in problem(response, status)["errors"]]


def soon(true: Callable[[], bool]) -> bool:
    """Whether it comes true in the time of a shelf's refresh; far longer than that is given to a busy machine."""
    patience = time.monotonic() + 20
    while not true() and time.monotonic() < patience:
        time.sleep(0.01)
    return true()
