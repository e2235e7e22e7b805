"""The live scorer, and its replacement by one reference swap."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from service.errors import NoLiveVersion

if TYPE_CHECKING:
    from model.fast_scorer import FastScorer, Precision
    from model.query import Query
    from model.scorer import Scorer
    from service.catalogue import Shelf


@dataclass(frozen=True, eq=False)
class Live:
    """A version ready to serve: its scorer, and the catalogue as that scorer sees it.

    fast: answers requests, in this precision; scorer: the plain fp32 reference that it is held to. popularity: how
    often each app was taken in training, for when there is no time to score.
    """

    version: str
    scorer: "Scorer"
    shelf: "Shelf"
    fast: "FastScorer"
    precision: "Precision"
    popularity: Mapping[str, int] = field(default_factory=dict)


class Engine:
    """Holds what serves now. A request takes `live()` once and finishes on it, whatever is swapped in meanwhile."""

    def __init__(self) -> None:
        self._live: Live | None = None

    @property
    def version(self) -> str | None:
        """The version that serves, None before the first."""
        return self._live.version if self._live else None

    def live(self) -> Live:
        """What serves now. Raises NoLiveVersion before the first swap."""
        if self._live is None:
            raise NoLiveVersion
        return self._live

    def recent(self) -> "Sequence[Query]":
        """The last query of each user who asked lately, none before the first swap."""
        return self._live.fast.recent() if self._live else ()

    def swap(self, live: Live) -> Live | None:
        """Serve `live` from the next request on; what served before it.

        Assigning one reference is atomic, so readers need no lock.
        """
        former, self._live = self._live, live
        return former
