"""What all users together are known to do: under which values of a field they use an app, and which apps they share.

`PairStatistic.IN_CONTEXT` and `PairStatistic.SIMILAR` are served from these tables, which are fixed into the bundle.
An app is known here by its ordinal, its place among the apps that anybody is known to use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from model.query import Query, categorical
from model.schema import FeatureSchema, FieldSpec, Kind, PairStatistic, Source

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Arrays = Mapping[str, npt.NDArray[Any]]

NOWHERE = -1
"""The ordinal of an app that nobody is known to use."""

MISSING = "\x00missing"
"""Stands for the value of a field that a request leaves out, a value like any other here."""

PRIOR_USERS = 5.0
"""Users without the candidate that each app of a history is given, so that a few users do not make a large share."""

MOST_APPS = 1_000
"""Apps of a user; one who has more, a shared device or a test, says nothing of which apps go together."""


SEARCHED = 16
"""Entries that can be laid out flat while one app is searched for."""


@dataclass(frozen=True)
class Contexts:
    """How many users are known to use each app under each value of one field, one value after the other.

    values: the texts; starts: (V + 1,) int64, where the entries of each value begin; apps: (n,) int32 ordinals,
    ascending within a value; counts: (n,) int32 users.
    """

    values: tuple[str, ...]
    starts: Ints
    apps: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]

    def of(self, value: str, apps: Ints) -> Floats:
        """(N,) users of each app (N,) under a value; zero for what is not known."""
        place = self._places.get(value)
        if place is None:
            return np.zeros(len(apps))
        span = slice(self.starts[place], self.starts[place + 1])
        known, counts = self.apps[span], self.counts[span]
        if len(apps) * SEARCHED > len(known):
            every = np.zeros(int(known[-1]) + 2)
            every[known] = counts
            return every[np.minimum(apps, len(every) - 1)]
        found = np.searchsorted(known, apps).clip(max=len(known) - 1)
        return np.where(known[found] == apps, counts[found], 0).astype(np.float64)

    @cached_property
    def _places(self) -> Mapping[str, int]:
        return {value: place for place, value in enumerate(self.values)}


@dataclass(frozen=True)
class Neighbours:
    """How many users have two apps both, and each, for every app those it shares most users with.

    users: (A,) int64; starts: (A + 1,) int64, where the neighbours of each app begin; apps: (n,) int32 ordinals;
    counts: (n,) int32 users who have both.
    """

    users: Ints
    starts: Ints
    apps: npt.NDArray[np.int32]
    counts: npt.NDArray[np.int32]

    def similar(self, history: Ints, apps: Ints, *, used: Mask) -> Floats:
        """(N,) how near each app (N,) is to those of a history (H,); used: (N,) which of them are in the history.

        The mean, over the apps b of the history but the candidate a, of (users with a and b) / (users with b +
        PRIOR_USERS). Only other users are counted: who has b is taken off, and off both where they have a too. It is
        the conditional probability of Deshpande and Karypis 2004 (Item-Based Top-N Recommendation), equation 2.
        """
        mine = history[history != NOWHERE]
        mine = mine[self.users[mine] > 0]
        if not len(mine) or len(history) > MOST_APPS:
            return np.zeros(len(apps))
        weights, lengths = shares(self.users[mine] - 1), self.starts[mine + 1] - self.starts[mine]
        ends = lengths.cumsum()
        entries = np.arange(ends[-1]) + (self.starts[mine] - ends + lengths).repeat(lengths)
        slots = np.zeros(len(self.users) + 1, dtype=np.int32)  # of each candidate, and 0 for all else
        slots[apps] = np.arange(1, len(apps) + 1)
        near = slots.take(self.apps.take(entries))
        met = np.flatnonzero(near)
        near, weight = near[met], weights.repeat(lengths)[met]
        together = np.bincount(near, self.counts[entries[met]] * weight, minlength=len(apps) + 1)[slots[apps]]
        alone = np.bincount(near, weight, minlength=len(apps) + 1)[slots[apps]] if used.any() else 0.0
        mean: Floats = (together - used * alone) / np.maximum(len(mine) - used, 1)
        return settled(np.where(apps == NOWHERE, 0.0, mean))


def shares(users: npt.NDArray[Any]) -> Floats:
    """What one of so many users weighs."""
    weights: Floats = 1.0 / (np.maximum(users, 0) + PRIOR_USERS)
    return weights


def settled(values: Floats) -> Floats:
    """The values in single precision, so that sums taken in another order fall into the same quantile."""
    return values.astype(np.float32).astype(np.float64)


@dataclass(frozen=True)
class Population:
    """The tables of one encoder. apps: in the order of their ordinals; contexts: by field; until: the last event that
    is counted, microseconds since 1970, None where the log told no times.
    """

    apps: tuple[str, ...] = ()
    contexts: Mapping[str, Contexts] = field(default_factory=dict)
    neighbours: Neighbours | None = None
    until: int | None = None

    @cached_property
    def ordinals(self) -> Mapping[str, int]:
        """The ordinal of each app."""
        return {app_id: place for place, app_id in enumerate(self.apps)}

    def ordinals_of(self, ids: Sequence[str]) -> Ints:
        """(n,) NOWHERE for an app that nobody is known to use."""
        find = self.ordinals.get
        return np.fromiter((find(app_id, NOWHERE) for app_id in ids), dtype=np.int64, count=len(ids))

    def measured(self, fields: Sequence[FieldSpec], query: Query, *, apps: Ints, uses: Floats) -> dict[str, Floats]:
        """(N,) each of the fields' measures for the apps (N,), which the user used `uses` (N,) times."""
        found = {}
        for one in fields:
            if one.measure is not None and one.by is not None:
                found[one.measure] = self.contexts[one.by].of(value_of(query, one.by), apps)
            elif one.measure is not None and self.neighbours is not None:
                history = self.ordinals_of([*query.history])
                found[one.measure] = self.neighbours.similar(history, apps, used=uses > 0)
        return found

    def to_state(self) -> tuple[dict[str, Any], dict[str, npt.NDArray[Any]]]:
        """The tables as JSON values and arrays; `from_state` gives back equal ones."""
        values = {name: list(table.values) for name, table in self.contexts.items()}
        arrays = {f"population.{name}.{key}": getattr(table, key) for name, table in self.contexts.items()
                  for key in ("starts", "apps", "counts")}  # fmt: skip
        if self.neighbours is not None:
            arrays |= {f"population..{key}": value for key, value in vars(self.neighbours).items()}
        return {"apps": list(self.apps), "values": values, "until": self.until}, arrays

    @classmethod
    def from_state(cls, texts: Mapping[str, Any], arrays: Arrays) -> "Population":
        """Undo `to_state`. Raises KeyError where the state is not whole."""
        contexts = {
            name: Contexts(tuple(values), *(arrays[f"population.{name}.{key}"] for key in ("starts", "apps", "counts")))
            for name, values in texts["values"].items()
        }
        near = {key: arrays.get(f"population..{key}") for key in ("users", "starts", "apps", "counts")}
        neighbours = None if near["users"] is None else Neighbours(**near)  # type: ignore[arg-type]  # all or none
        return cls(tuple(texts["apps"]), contexts, neighbours, texts["until"])


NOBODY = Population()


def population_fields(schema: FeatureSchema) -> tuple[FieldSpec, ...]:
    """The pair fields that are served from a population's tables."""
    fields = schema.of(Source.PAIR, kind=Kind.CONTINUOUS)
    return tuple(one for one in fields if one.of in (PairStatistic.IN_CONTEXT, PairStatistic.SIMILAR))


def value_of(query: Query, name: str) -> str:
    """The text that a query has for a field of its user or context. Raises ValueRefused where it does not fit."""
    for values in (query.context, query.user):
        if name in values:
            return categorical(values[name])
    return MISSING
