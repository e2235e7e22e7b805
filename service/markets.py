"""Where each app of a table may be shown, as a number a row: a million apps are no objects here."""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from service.store.ports import AppRecord

Codes = npt.NDArray[np.int32]
Allowed = npt.NDArray[np.bool_]

EVERYWHERE, UNAVAILABLE, GONE = 0, 1, 2
"""Codes of rows that everyone may see, that nobody may, and that no app of the catalogue has any more."""

FIRST_LIMITED = 3


class Markets:
    """The codes of markets: from FIRST_LIMITED on, each stands for a set of countries that alone may see an app.

    Codes are only ever added, by one thread, while any number read.
    """

    def __init__(self, limited: Iterable[Sequence[str]] = ()) -> None:
        self._codes: dict[frozenset[str], int] = {}
        self._of_country: dict[str, tuple[int, ...]] = {}
        for countries in limited:
            self._add(frozenset(countries))

    @property
    def limited(self) -> list[list[str]]:
        """The sets of countries in the order of their codes, as JSON takes them."""
        return [sorted(countries) for countries in self._codes]

    def code(self, record: AppRecord) -> int:
        """The code of where an app may be shown; a set of countries that is new gets the next one."""
        if not record.available:
            return UNAVAILABLE
        if not record.countries:
            return EVERYWHERE
        return self._add(frozenset(record.countries))

    def allowed(self, country: str | None) -> Allowed:
        """(codes,) true for the codes of apps that may be shown there; an unknown country is in no set."""
        codes = list(self._of_country.get(country or "", ()))  # before the length, which may grow meanwhile
        open_there = np.zeros(FIRST_LIMITED + len(self._codes), dtype=np.bool_)
        open_there[EVERYWHERE] = True
        open_there[codes] = True
        return open_there

    def knows(self, country: str | None) -> bool:
        """True where some app is limited to countries of which this is one."""
        return country in self._of_country

    def _add(self, countries: frozenset[str]) -> int:
        code = self._codes.setdefault(countries, FIRST_LIMITED + len(self._codes))
        for country in countries:
            if code not in (before := self._of_country.get(country, ())):
                self._of_country[country] = (*before, code)
        return code
