"""A user for a ranking: from the store, else from this process's own copy, else nobody; and never a wait for long."""

import logging
import sys
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from threading import Lock
from typing import NamedTuple, Protocol
from weakref import ref

import msgspec

from service.breaker import Breaker, Turn
from service.errors import StoreUnavailable
from service.store.ports import FeatureStore, UserRecord

FEATURE_STORE, LOCAL_COPY = "feature_store", "local_copy"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fetched:
    """A user as far as they are known; record is None where nobody knows them.

    missing: what should have told of them and did not, FEATURE_STORE and then LOCAL_COPY.
    """

    record: UserRecord | None
    missing: tuple[str, ...] = ()

    @property
    def answered(self) -> bool:
        """True where the store itself answered, so that no record means no such user."""
        return not self.missing


class FetchUsers(Protocol):
    """How a ranking gets its users."""

    def __call__(self, user_ids: Sequence[str], /, *, at_once: bool = False) -> Sequence[Fetched]:
        """Each user, in the order asked; at_once: by what is known here, without asking the store."""


class _Copy(NamedTuple):
    """A user packed, and the object that was: a store that gives out the same one again is not asked to pack it."""

    packed: bytes
    of: ref[UserRecord]


class Copies:
    """The newest users that were fetched, at most `limit` of them; the one not asked for longest goes first.

    They are kept packed, at a sixth of the memory, and nobody can change one that another holds.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._packed: OrderedDict[str, _Copy] = OrderedDict()
        self._lock = Lock()
        self._pack = msgspec.msgpack.Encoder().encode
        self._unpack = msgspec.msgpack.Decoder(UserRecord).decode

    def keep(self, user_id: str, record: UserRecord | None) -> None:
        """Copy what the store says now; a user that it no longer knows is forgotten here too."""
        with self._lock:
            copy = self._packed.pop(user_id, None)
            if record is not None:
                kept = copy if copy is not None and copy.of() is record else _Copy(self._pack(record), ref(record))
                self._packed[user_id] = kept
            if len(self._packed) > self._limit:
                self._packed.popitem(last=False)

    def get(self, user_id: str) -> UserRecord | None:
        """The user as fetched last, None where they never were or had to make room."""
        with self._lock:
            copy = self._packed.get(user_id)
            if copy is not None:
                self._packed.move_to_end(user_id)
        return self._unpack(copy.packed) if copy is not None else None

    def __len__(self) -> int:
        return len(self._packed)


class UserFetcher:
    """Fetches users for rankings, in one round trip, and never raises StoreUnavailable.

    One request waits for the store at most once, for as long as the store's own timeout lets it; while the breaker is
    open no request waits at all but those of one call that finds out whether the store is back.
    """

    def __init__(self, features: FeatureStore, *, copies: int, breaker: Breaker) -> None:
        self._features = features
        self._copies = Copies(copies)
        self._breaker = breaker

    def many(self, user_ids: Sequence[str], /, *, at_once: bool = False) -> list[Fetched]:
        """Each user, in the order asked: as the store has them, else as they were fetched last, else nobody.

        at_once: as if the store were away, without asking it.
        """
        if not at_once and (turn := self._breaker.enter()):
            with suppress(StoreUnavailable):
                return [Fetched(record) for record in self._ask(user_ids, turn)]
        return [self._stand_in(user_id) for user_id in user_ids]

    def _stand_in(self, user_id: str) -> Fetched:
        record = self._copies.get(user_id)
        return Fetched(record, (FEATURE_STORE,) if record else (FEATURE_STORE, LOCAL_COPY))

    def _ask(self, user_ids: Sequence[str], turn: Turn) -> Sequence[UserRecord | None]:
        answered = False
        try:
            records = self._features.get_users(user_ids)
            answered = True
        finally:
            if self._breaker.leave(turn, answered=answered):
                told = (
                    "the store answers again" if answered else f"local copies stand in for the store: {sys.exception()}"
                )
                log.warning("rankings: %s", told)
        for user_id, record in zip(user_ids, records, strict=True):
            self._copies.keep(user_id, record)
        return records
