"""The backends that every contract test runs on: add one here and the whole suite judges it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from service.home import Home
from service.store.backend import Backend
from service.store.sqlite_backend import open_sqlite

__all__ = ["BACKENDS", "Backend"]

Clock = Callable[[], float]


@contextmanager
def sqlite(folder: Path, clock: Clock) -> Iterator[Backend]:
    yield open_sqlite(Home(folder), clock)


BACKENDS = {"sqlite": sqlite}
