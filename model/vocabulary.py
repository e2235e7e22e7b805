"""Raw values to numbers, one field at a time: vocabularies with an OOV id, and quantile normalisation."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from model.query import NULL

UNKNOWN_ID, MISSING_ID, NULL_ID = 0, 1, 2
FIRST_ID = 3

Ids = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Vocabulary:
    """The values of one field that were seen often enough, and how often.

    values: the text of ids FIRST_ID, FIRST_ID + 1, ...; counts: (size,) int64, rows of training that held each id,
    the three special ids first. A value below the minimum count is UNKNOWN_ID, an absent one MISSING_ID, an explicit
    null NULL_ID.
    """

    field: str
    values: tuple[str, ...]
    counts: Ids

    @classmethod
    def fit(cls, field: str, seen: Mapping[str | None, int], *, min_count: int) -> "Vocabulary":
        """Keep the values seen at least `min_count` times, the most frequent first, ties by text."""
        plain = {value: count for value, count in seen.items() if value is not None and value != NULL}
        kept = sorted((value for value, count in plain.items() if count >= min_count), key=lambda v: (-plain[v], v))
        rare = sum(plain.values()) - sum(plain[value] for value in kept)
        special = [rare, seen.get(None, 0), seen.get(NULL, 0)]
        return cls(field, tuple(kept), np.array(special + [plain[value] for value in kept], dtype=np.int64))

    @classmethod
    def none(cls, field: str) -> "Vocabulary":
        """A vocabulary that no value has been seen of."""
        return cls(field, (), np.zeros(FIRST_ID, dtype=np.int64))

    def grown(self, seen: Mapping[str | None, int], *, min_count: int, compact: bool = False) -> "Vocabulary":
        """These values with their ids, then those of `seen` that are new and frequent enough; the counts add up.

        compact: without the values that `seen` lacks, which moves the ids of those after them.
        """
        known = set(self.values)
        new = Vocabulary.fit(self.field, {v: c for v, c in seen.items() if v not in known}, min_count=min_count)
        before = zip(self.values, self.counts[FIRST_ID:].tolist(), strict=True)
        kept = {value: count + seen.get(value, 0) for value, count in before if not compact or seen.get(value, 0)}
        special = self.counts[:FIRST_ID] + new.counts[:FIRST_ID]
        counts = np.concatenate([special, np.array([*kept.values()], dtype=np.int64), new.counts[FIRST_ID:]])
        return Vocabulary(self.field, (*kept, *new.values), counts)

    @property
    def size(self) -> int:
        """How many ids there are, the special ones included."""
        return FIRST_ID + len(self.values)

    @cached_property
    def index(self) -> dict[str | None, int]:
        """Value to id; None and NULL have their own, anything absent is UNKNOWN_ID."""
        known: dict[str | None, int] = {value: FIRST_ID + place for place, value in enumerate(self.values)}
        return known | {None: MISSING_ID, NULL: NULL_ID}

    @cached_property
    def hashes(self) -> Ids:
        """(size,) int64: a hash of field and value that no other vocabulary changes, for crosses."""
        special = ("\x00unknown", "\x00missing", NULL)
        return np.array([hash_text(f"{self.field}={value}") for value in (*special, *self.values)], dtype=np.int64)

    def ids(self, values: Iterable[str | None]) -> Ids:
        """(len(values),) int64."""
        find = self.index.get
        return np.fromiter((find(value, UNKNOWN_ID) for value in values), dtype=np.int64)


def hash_text(text: str) -> int:
    """A 64-bit hash of a text as a signed integer, the same on every machine and in every run."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class Quantiles:
    """Normalises a continuous value to [0, 1] by its quantile: (i - 1) / (n_q - 1) in the i-th of n_q quantiles.

    Cheng et al. 2016, section 4.1. boundaries: ascending, between one quantile and the next. A missing or null value
    takes the middle, 0.5.
    """

    boundaries: tuple[float, ...]

    @classmethod
    def fit(cls, values: Floats, *, quantiles: int) -> "Quantiles":
        """Cut the finite values into at most `quantiles` parts of equal count; equal boundaries fold into one."""
        return cls.of_counts(*np.unique(values[np.isfinite(values)], return_counts=True), quantiles=quantiles)

    @classmethod
    def of_counts(cls, values: Floats, counts: Ids, *, quantiles: int) -> "Quantiles":
        """The same of distinct values, ascending, and how often each stands."""
        if not values.size:
            return cls(())
        ranks = -(-np.arange(1, quantiles) * int(counts.sum()) // quantiles)  # the least with as large a share below
        cuts = values[np.searchsorted(counts.cumsum(), ranks)]
        return cls(tuple(float(cut) for cut in np.unique(cuts) if cut < values[-1]))

    def normalise(self, values: Sequence[float] | Floats) -> npt.NDArray[np.float32]:
        """(len(values),) float32 in [0, 1]."""
        numbers = np.asarray(values, dtype=np.float64)
        places = np.searchsorted(self._edges, numbers, side="left") / max(len(self.boundaries), 1)
        return np.where(np.isnan(numbers), 0.5, places).astype(np.float32)

    @cached_property
    def _edges(self) -> Floats:
        return np.array(self.boundaries, dtype=np.float64)
