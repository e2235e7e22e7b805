"""The request's side of a score, from what was kept of its user and of its context's values.

In a net that is `additive`, each field of a request adds its own share to the request part. The shares of a user's
fields are added up when the user is first seen, that of a context's value when the value is; a request costs a sum.
In any other net the context is among what is kept with the user.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from model.cross_plan import RequestKeys
from model.layers import Part
from model.query import Query, Value
from model.request_fields import raw_values, request_fields
from model.schema import Source
from model.scorer import Scorer
from model.shares import Floats, Share, Shares

KEPT_VALUES = 10_000
"""Values of context fields whose share is kept, those seen last."""

RECENT = 500
"""Queries that are remembered for the next version to be warmed with."""


@dataclass(frozen=True)
class Encoded:
    """A query as the net sees it.

    part: (W,) the request part, its tensors laid end to end; statuses: what `Scorer.observe` says of it.
    """

    query: Query
    part: Floats
    keys: RequestKeys
    statuses: Mapping[str, str]


@dataclass(frozen=True)
class _Kept:
    """What is kept of a user. seen: the values that it was made of, to be compared with."""

    seen: object
    share: Share
    statuses: Mapping[str, str]


class _Slot:
    """The place of one user among those that are kept."""

    kept: _Kept | None = None


class RequestSide:
    """Encodes queries for one scorer; any thread may ask. users: how many are kept, those seen last."""

    def __init__(self, scorer: Scorer, *, users: int) -> None:
        fields = request_fields(scorer.transform)
        additive = getattr(scorer.net, "additive", False)
        self._varying = [one for one in fields if additive and one.spec.source is Source.CONTEXT]
        self._own = [one for one in fields if one not in self._varying]
        self._own_names = frozenset(one.spec.name for one in self._own)
        self._shares = Shares(scorer.net, scorer.transform, fields=fields, own=self._own_names)
        self._slot = lru_cache(users)(lambda _: _Slot())
        self._recent: deque[Query] = deque(maxlen=RECENT)
        self._share_of = lru_cache(KEPT_VALUES)(self._shares.of_one)
        self._crossed = lru_cache(KEPT_VALUES)(self._shares.of_crosses)

    def encode(self, query: Query) -> Encoded:
        """The query's side, one row. Raises ValueRefused where a value does not fit its field."""
        kept = self._kept(query)
        self._recent.append(query)
        shares, statuses = [kept.share], dict(kept.statuses)
        for one in self._varying:
            values = query.context if one.spec.name in query.context else query.user
            code = one.code(values)
            shares.append(self._share_of(one, code))
            if status := one.status(code, values):
                statuses[one.spec.name] = status
        part, keys, crossed = self._shares.total(shares)
        if crossed:
            part += self._crossed(crossed)
        return Encoded(query, part, keys, statuses)

    def recent(self) -> list[Query]:
        """The last query of each user among the RECENT last."""
        return list({query.user_id: query for query in self._recent.copy()}.values())

    def parts(self, encoded: Sequence[Encoded]) -> Part:
        """The request part of R queries, a row each."""
        return self._shares.parts([one.part for one in encoded])

    def _kept(self, query: Query) -> _Kept:
        slot, seen = self._slot(query.user_id), self._seen(query)
        kept = slot.kept
        if kept is None or kept.seen != seen:
            slot.kept = kept = self._read(query, seen)
        return kept

    def _seen(self, query: Query) -> object:
        """All that the share of a query's own fields depends on. A context may set a user's field for one request."""
        context = () if self._own_names.isdisjoint(query.context) else _told_apart(query.context)
        return _told_apart(query.user), tuple(query.history), context

    def _read(self, query: Query, seen: object) -> _Kept:
        values = raw_values(query, self._own)
        codes = {one: one.code(values) for one in self._own}
        statuses = {one.spec.name: one.status(code, values) for one, code in codes.items()}
        return _Kept(seen, self._shares.of_own(codes), {name: status for name, status in statuses.items() if status})


def _told_apart(values: Mapping[str, Value]) -> object:
    """Equal for equal values only: 1 is neither 1.0 nor true here, as it is to an encoder. Nothing in it can change."""
    fixed = tuple(_items(value) if isinstance(value, list) else value for value in values.values())
    return tuple(values), fixed, tuple(map(type, values.values()))


def _items(values: Sequence[object]) -> object:
    return tuple(values), tuple(map(type, values))
