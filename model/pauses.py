"""Work beside requests is done in small steps, and after each of them somebody else may go first."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Pause = Callable[[], None]
"""Called between two steps; takes as long as it sees fit."""

Item = TypeVar("Item")


def unpaused() -> None:
    """The pause of work that nobody waits beside."""


def paused(items: Iterable[Item], pause: Pause) -> Iterator[Item]:
    """The items, with a pause after the work that is done on each of them."""
    for item in items:
        yield item
        pause()
