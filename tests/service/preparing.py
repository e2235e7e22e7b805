"""What versions are made ready with in tests: no pauses, the exact precision, and tables in the container's home."""

import os
import time

from model.fast_scorer import Precision
from service.container import Container
from service.preparation import Preparation
from service.settings import variable
from service.stocking import LocalStock, StoreStock
from service.tables import TableParts, Tables


def nothing() -> None:
    """A pause of no time."""


def table_parts(container: Container) -> TableParts:
    """The parts with which the container's home is served, and nobody in the way."""
    environ = {**os.environ, variable("home"): str(container.home.root)}
    return TableParts(container.registry.folder, frozenset, frozenset, environ, 600.0, lambda: False, time.sleep)


def tables_of(container: Container, parts: TableParts | None = None) -> Tables:
    return Tables(container.home.tables, parts or table_parts(container))


def preparation_of(container: Container, stock: StoreStock | LocalStock | None = None) -> Preparation:
    """By default from the container's store."""
    from_store = StoreStock(container.features, tables_of(container), nothing)
    return Preparation(stock or from_store, lambda _: Precision.EXACT, 100, tuple, nothing)
