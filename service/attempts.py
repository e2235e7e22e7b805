"""One ranking among others: what fails of it fails for it alone."""

from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def attempt(step: Callable[[], T]) -> T | Exception:
    """What the step returns, or what it raises."""
    try:
        return step()
    except Exception as error:  # a ranking among others: whoever asked for it is told, and the others go on
        return error
