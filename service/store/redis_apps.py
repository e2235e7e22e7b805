"""The catalogue on Redis: apps, and in which order they changed."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

import msgspec

from service.store.ports import AppChanges, AppPages, AppRecord
from service.store.redis_client import Command, RedisLink, Row, Script
from service.store.redis_layout import Keys

Features = dict[str, str | int | float | bool | list[str] | None]
Told = tuple[Features, bool, tuple[str, ...]]

NUMBERS_KEPT = 10_000
"""Sequence numbers that are kept as given out; whoever asks with an older one is believed."""

# A number is the microsecond in which it is given out, so that a Redis which lost the last changes, as a replica that
# takes its master's place may have, gives none of their numbers out again. Of the newest it is kept that they were.
NEXT = f"""
local function following_of(sequence, numbers)
    local now = redis.call('TIME')
    local next = math.max(tonumber(redis.call('GET', sequence) or 0) + 1, now[1] * 1000000 + now[2])
    local told = string.format('%.0f', next)
    redis.call('SET', sequence, told)
    redis.call('ZADD', numbers, told, told)
    redis.call('ZREMRANGEBYRANK', numbers, 0, -{NUMBERS_KEPT + 1})
    return told
end
"""

# An unchanged app keeps its sequence, so that putting a whole catalogue again costs the servers nothing. The time of
# the first change names the numbering: a Redis that lost everything begins another, and nobody takes it for this.
PUT = Script(f"""{NEXT}
local rows, changed, sequence, following = KEYS[1], KEYS[2], KEYS[3], nil
for n = 2, #ARGV, 2 do
    if redis.call('HGET', rows, ARGV[n]) ~= ARGV[n + 1] then
        following = following or following_of(sequence, KEYS[5])
        redis.call('HSET', rows, ARGV[n], ARGV[n + 1])
        redis.call('ZADD', changed, following, ARGV[n])
    end
end
if following then
    local now = redis.call('TIME')
    redis.call('SET', KEYS[4], now[1] .. '.' .. now[2], 'NX')
    redis.call('PUBLISH', ARGV[1], 'apps')
end
return tonumber(redis.call('GET', sequence) or 0)
""")

DELETE = Script(f"""{NEXT}
if redis.call('HDEL', KEYS[1], ARGV[2]) == 0 then return 0 end
redis.call('ZADD', KEYS[2], following_of(KEYS[3], KEYS[5]), ARGV[2])
redis.call('PUBLISH', ARGV[1], 'apps')
return 1
""")

PAGE = 1_000
"""Apps that are read at a time: Redis does one thing after another, and a ranking waits for its next."""


class RedisApps:
    """The apps of a FeatureStore."""

    def __init__(self, link: RedisLink, keys: Keys) -> None:
        self._link = link
        self._keys = [keys.apps(name) for name in ("rows", "changed", "sequence", "origin", "numbers")]
        self._news = keys.news
        self._encode = msgspec.json.Encoder(order="sorted").encode
        self._decode = msgspec.json.Decoder(Told).decode

    def put(self, records: Iterable[AppRecord]) -> int:
        """Insert or replace apps; the sequence after it."""
        rows: list[Row] = [(app.id, self._encode((app.features, app.available, app.countries))) for app in records]
        return int(self._link.run(PUT, self._keys, [self._news, *chain(*rows)]))

    def get(self, app_id: str) -> AppRecord | None:
        """The app, None where there is none."""
        row = self._link.ask("HGET", self._keys[0], app_id)
        return self._app(app_id, row) if row else None

    def delete(self, app_id: str) -> bool:
        """Forget the app but for its place among the changes; False where there was none."""
        return bool(self._link.run(DELETE, self._keys, [self._news, app_id]))

    def since(self, sequence: int) -> AppChanges:
        """What changed after `sequence`, in order of change; what changes while it is read comes again.

        A number that was never given out here, where later ones were, was one of a change that this Redis has lost.
        """
        _, changed, newest, origin, numbers = self._keys
        asks: list[Command] = [("GET", newest), ("GET", origin), ("ZRANGEBYSCORE", changed, f"({sequence}", "+inf")]
        asks += [("ZSCORE", numbers, sequence), ("ZCOUNT", numbers, "-inf", f"({sequence}")]
        last, named, ids, given, before = self._link.together(asks)
        lost = bool(sequence and before and not given)
        told = [(app_id.decode(), row) for page in self._rows(ids) for app_id, row in page]
        return AppChanges(
            sequence=min(int(last or 0), sequence - 1) if lost else int(last or 0),
            put=tuple(self._app(app_id, row) for app_id, row in told if row),
            deleted=tuple(app_id for app_id, row in told if not row),
            origin=(named or b"").decode(),
        )

    def pages(self) -> AppPages:
        """The whole catalogue, a page at a time, as each page is when it is read."""
        _, changed, newest, origin, _ = self._keys
        asks = [("GET", newest), ("GET", origin), ("ZRANGE", changed, 0, -1)]
        last, named, ids = self._link.together(asks)
        pages = ([self._app(app_id.decode(), row) for app_id, row in page if row] for page in self._rows(ids))
        return AppPages(int(last or 0), len(ids), pages, (named or b"").decode())

    def _rows(self, ids: Sequence[bytes]) -> Iterator[list[tuple[bytes, bytes | None]]]:
        """Each app's row, None where it was deleted, a page at a time."""
        for page in (ids[first : first + PAGE] for first in range(0, len(ids), PAGE)):
            yield list(zip(page, self._link.ask("HMGET", self._keys[0], *page), strict=True))

    def _app(self, app_id: str, row: bytes) -> AppRecord:
        features, available, countries = self._decode(row)
        return AppRecord(app_id, features, available, countries)
