"""Impressions and feedback on Redis."""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain, takewhile

import msgspec

from service.store.log_ports import FORGOTTEN_KEPT_S, Displayed, Feedback, Impression, LogCounts, Taken
from service.store.packed_values import spliced
from service.store.redis_client import RedisLink, Row
from service.store.redis_layout import Keys
from service.store.redis_log_removal import LogRemoval
from service.store.redis_log_scripts import (
    CLAIM,
    DIGEST_LENGTH,
    FORGET_CONSUMERS,
    GROUP,
    NOTE_FORGOTTEN,
    SETTLE,
    SHOW,
    TAKE,
)

PAGE = 500
TRIMMED_AT_ONCE = 1_000
"""Rows a transaction: few enough that whoever asks meanwhile gets a turn between two."""

FASTEST = 1
"""zlib's level for impressions, which repeat their fields' names: a third of the memory for 40 microseconds."""

CONSUMERS_KEPT_MS = 86_400_000
TAKEN = (Taken.NEW, Taken.SAME, Taken.OTHER)


class RedisEventLog:
    """An EventLog on Redis; `clock` gives the epoch seconds of claims, the same for every process.

    What is acknowledged survives a kill of Redis itself where Redis syncs its append-only file always.
    """

    def __init__(self, link: RedisLink, clock: Callable[[], float], *, keys: Keys) -> None:
        self._link, self._clock = link, clock
        self._key = keys.log
        self._removal = LogRemoval(link, keys)
        self._encode = msgspec.json.Encoder(enc_hook=spliced).encode
        self._impression = msgspec.json.Decoder(Impression).decode
        self._event = msgspec.json.Decoder(Feedback).decode
        self._told = msgspec.json.Decoder(tuple[float, str, frozenset[str]]).decode

    def show(self, impressions: Iterable[Impression]) -> int:
        """Keep impressions in one script; how many were new."""
        asked = list(impressions)
        keys = [*self._keys("impressions", "displayed", "impressions:at", "forgotten")]
        keys += [self._key(f"user:{one.user_id}") for one in asked]
        return int(self._link.run(SHOW, keys, [*chain(*map(self._impression_row, asked))]))

    def displayed(self, request_ids: Iterable[str]) -> Mapping[str, Displayed]:
        """What was shown under these request ids, those that are known; one command."""
        asked = list(request_ids)
        rows = self._link.ask("HMGET", self._key("displayed"), *asked) if asked else []
        return {
            request_id: Displayed(request_id, *self._told(row))
            for request_id, row in zip(asked, rows, strict=True)
            if row
        }

    def take(self, feedback: Sequence[Feedback]) -> tuple[Taken, ...]:
        """Keep events in one script; what became of each."""
        keys = [*self._keys("feedback", "feedback:at", "unsettled", "places")]
        for one in feedback:
            keys.append(keys[0] if one.user_id is None else self._key(f"user:{one.user_id}"))
            keys.append(keys[0] if one.request_id is None else self._key(f"request:{one.request_id}"))
        return tuple(TAKEN[became] for became in self._link.run(TAKE, keys, [*chain(*map(self._event_row, feedback))]))

    def claim(self, consumer: str, *, count: int, idle_s: float) -> tuple[Feedback, ...]:
        """Up to `count` events that nobody has settled or lately claimed, in the order in which they were taken."""
        times = [round(idle_s * 1000), round(self._clock() * 1000)]
        rows = self._link.run(CLAIM, self._keys("unsettled", "feedback", "places"), [GROUP, consumer, count, *times])
        return tuple(self._event(row[DIGEST_LENGTH:]) for row in rows)

    def settle(self, ids: Iterable[str]) -> None:
        """Say that these claimed events have been dealt with."""
        self._link.run(SETTLE, self._keys("unsettled", "places"), [GROUP, *ids])

    def impressions(self, since: float, until: float) -> Iterator[Impression]:
        """The impressions with since <= at < until, oldest first."""
        return (self._impression(zlib.decompress(row)) for row in self._rows("impressions", since, until))

    def feedback(self, since: float, until: float) -> Iterator[Feedback]:
        """The events with since <= at < until, in order of `at`, ties by id."""
        return (self._event(row[DIGEST_LENGTH:]) for row in self._rows("feedback", since, until))

    def forget_user(self, user_id: str) -> int:
        """Remove every impression of a user and every event that names the user or one of those impressions."""
        noted = self._key(f"user:{user_id}"), repr(self._clock())
        self._link.run(NOTE_FORGOTTEN, self._keys("forgotten"), noted)  # first, or one may slip in
        return self._removal.of_user(user_id)

    def trim(self, *, before: float, keep: LogCounts) -> int:
        """Remove what is older than `before`, and of each kind what is past the newest `keep`, some at a time."""
        gone = 0
        for ids in self._older("impressions:at", before):
            gone += self._removal.remove(request_ids=ids)
        for ids in self._older("feedback:at", before):
            gone += self._removal.remove(event_ids=ids)
        while (past := self.counts().impressions - keep.impressions) > 0:
            gone += self._removal.remove(request_ids=self._oldest("impressions:at", past))
        while (past := self.counts().feedback - keep.feedback) > 0:
            gone += self._removal.remove(event_ids=self._oldest("feedback:at", past))
        long_ago = self._clock() - FORGOTTEN_KEPT_S
        self._link.ask("ZREMRANGEBYSCORE", self._key("forgotten"), "-inf", f"({long_ago!r}")
        self._link.run(FORGET_CONSUMERS, self._keys("unsettled"), [GROUP, CONSUMERS_KEPT_MS])
        return gone

    def counts(self) -> LogCounts:
        """How much there is."""
        return LogCounts(*self._link.together([("HLEN", key) for key in self._keys("impressions", "feedback")]))

    def _keys(self, *names: str) -> list[str]:
        return [self._key(name) for name in names]

    def _impression_row(self, one: Impression) -> Row:
        told = (one.at, one.user_id, [item.app_id for item in one.items])
        return one.request_id, zlib.compress(self._encode(one), FASTEST), self._encode(told), repr(one.at)

    def _event_row(self, one: Feedback) -> Row:
        return one.id, one.digest.encode() + self._encode(one), repr(one.at)

    def _ids(self, *command: str | int) -> list[str]:
        return [one.decode() for one in self._link.ask(*command)]

    def _older(self, name: str, before: float) -> Iterator[list[str]]:
        """The ids of the rows before this, some at a time; each lot must be removed before the next is asked for."""
        while ids := self._ids("ZRANGEBYSCORE", self._key(name), "-inf", f"({before!r}", "LIMIT", 0, TRIMMED_AT_ONCE):
            yield ids

    def _oldest(self, name: str, count: int) -> list[str]:
        """The ids of that many of the oldest rows, of as many as go at once."""
        return self._ids("ZRANGE", self._key(name), 0, min(count, TRIMMED_AT_ONCE) - 1)

    def _rows(self, name: str, since: float, until: float) -> Iterator[bytes]:
        """The rows with since <= at < until in order of `at`, ties by id, page after page."""
        at, told = since, 0
        while page := self._page(f"{name}:at", (at, until), skip=told):
            yield from filter(None, self._link.ask("HMGET", self._key(name), *(one for one, _ in page)))
            # The next page begins at the moment that this one ended in, past those of that moment told already.
            last = page[-1][1]
            tied = sum(1 for _ in takewhile(lambda row: row[1] == last, reversed(page)))  # noqa: B023  # used at once
            at, told = last, tied + (told if last == at else 0)

    def _page(self, name: str, span: tuple[float, float], *, skip: int) -> list[tuple[bytes, float]]:
        """Ids and epoch seconds of the next rows of a span that begin `skip` rows after its begin."""
        since, until = span
        asked = ("ZRANGEBYSCORE", self._key(name), repr(since), f"({until!r}", "WITHSCORES", "LIMIT", skip, PAGE)
        flat = self._link.ask(*asked)
        return [(one, float(at)) for one, at in zip(flat[::2], flat[1::2], strict=True)]
