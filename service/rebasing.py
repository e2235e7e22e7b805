"""New bases for a shelf that has outgrown its own, built beside the requests and handed over when they are there."""

import logging
from collections.abc import Callable
from concurrent.futures import Executor, Future
from dataclasses import dataclass

from service.catalogue import Shelf
from service.edition import Base
from service.engine import Live
from service.errors import ServiceError
from service.table_files import StoredTable
from service.tables import Tables

AGAIN_AFTER_S = 60.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Order:
    """A base that is on its way to a shelf."""

    shelf: Shelf
    future: Future[StoredTable]


class Bases:
    """Orders bases, one at a time. clock: monotonic seconds; pause: between two steps of what is done with a base."""

    def __init__(
        self, tables: Tables, executor: Executor, *, clock: Callable[[], float], pause: Callable[[], None]
    ) -> None:
        self._tables = tables
        self._executor = executor
        self._clock = clock
        self._pause = pause
        self._order: Order | None = None
        self._not_before = clock()

    def order(self, live: Live, suits: Callable[[Base], bool]) -> None:
        """Have another base that suits built for the version's shelf, unless another process has.

        Nothing is done while one is on its way, nor for a while where one could not be built.
        """
        if self._order is not None or self._clock() < self._not_before:
            return
        began_with = live.shelf.base

        def will_do(stored: StoredTable) -> bool:
            return not _same(stored.base, began_with) and suits(stored.base)

        self._order = Order(live.shelf, self._executor.submit(self._tables.build, live.scorer, will_do))

    def let_go(self, base: Base) -> None:
        """Have what a base held given back that serves no more."""
        self._executor.submit(base.let_go, self._pause)

    def awaits(self, shelf: Shelf) -> bool:
        """True while a base is on its way to this shelf."""
        return self._order is not None and self._order.shelf is shelf

    def arrived(self, shelf: Shelf) -> Base | None:
        """The base that was ordered for this shelf, once; None while it is built and where it could not be."""
        order = self._order
        if order is None or not order.future.done():
            return None
        self._order, self._not_before = None, self._clock() + AGAIN_AFTER_S
        try:
            stored = order.future.result()
        except ServiceError as error:
            log.error("apps beyond what this process may hold wait for a new base: %s", error)
            return None
        self._not_before = self._clock()
        return stored.base if order.shelf is shelf else None


def _same(one: Base, other: Base) -> bool:
    return (one.origin, one.sequence) == (other.origin, other.sequence)
