"""What is ranked for whom: raw values as they come from a request, a store or a log, before any encoding."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Value = str | int | float | bool | None | Sequence[str]

NULL = "\x00null"
"""Stands for an explicit null in a column of text, where None means that the value was missing."""

MAX_TEXT_LENGTH = 512
CONTROL = re.compile("[\x00-\x1f\x7f]")


class ValueRefused(ValueError):
    """A raw value does not fit its field; the message says what was seen and what is allowed."""


@dataclass(frozen=True)
class Query:
    """One request's side: who asks, where, and what they used before (app id to count, most used first)."""

    user_id: str
    user: Mapping[str, Value] = field(default_factory=dict)
    context: Mapping[str, Value] = field(default_factory=dict)
    history: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class App:
    """One app of the catalogue with its raw feature values."""

    id: str
    features: Mapping[str, Value] = field(default_factory=dict)


def categorical(value: object) -> str:
    """The text a categorical value is known by; None becomes NULL. Raises ValueRefused for other types."""
    if value is None:
        return NULL
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise ValueRefused(f"{type(value).__name__} where a text, a whole number or a boolean is allowed")
    if len(value) > MAX_TEXT_LENGTH:
        raise ValueRefused(f"a text of {len(value)} characters; at most {MAX_TEXT_LENGTH} are allowed")
    if not value.isprintable() and CONTROL.search(value):
        raise ValueRefused("a control character in a text")
    return value


def multi(value: object) -> list[str] | None:
    """The texts of a multi-valued field; None stays None. Raises ValueRefused for anything but a list of texts."""
    if value is None:
        return None
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueRefused(f"{type(value).__name__} where a list of texts is allowed")
    return [categorical(item) for item in value]


def continuous(value: object) -> float:
    """The number of a continuous field; None becomes NaN. Raises ValueRefused for NaN, infinity and other types."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueRefused(f"{type(value).__name__} where a number is allowed")
    number = float(value)
    if not math.isfinite(number):
        raise ValueRefused(f"{number} where a finite number is allowed")
    return number
