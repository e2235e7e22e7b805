"""Impressions as rows of the embedded log: the values of an app are kept once, however often it is shown with them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import msgspec

from model.query import Value
from service.store.log_ports import Impression, Shown
from service.store.packed_values import KEY_BYTES, packed
from service.store.sqlite import Database, Row

PAGE = 500
KEYS_AT_ONCE = 10_000
KEPT_ON_S = 86_400.0
"""Seconds past an impression that the values in it are kept at least, so that they are written once in that time."""

KNOWN_VALUES = 50_000
"""Values that a process remembers to have written, for 10 MB."""

SHOW = """
INSERT INTO impressions (request_id, at, user_id, shown, body, app_values) SELECT ?1, ?2, ?3, ?4, ?5, ?6
WHERE NOT EXISTS (SELECT 1 FROM forgotten WHERE user_id = ?3 AND at >= ?2)
ON CONFLICT (request_id) DO NOTHING"""
KEEP = """
INSERT INTO app_values (key, until, body) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET until = max(until, excluded.until)"""
IMPRESSIONS = """
SELECT at, id, request_id, user_id, shown, app_values, body FROM impressions
WHERE at >= ? AND at < ? AND (at > ? OR id > ?) ORDER BY at, id LIMIT ?"""
TRIM_VALUES = """
DELETE FROM app_values WHERE key IN (SELECT key FROM app_values WHERE until < :before LIMIT :some)"""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """The rest of an impression, as a list. scores, others, measures: of each app; none of these where none has any."""

    version: str
    user: Mapping[str, Value]
    context: Mapping[str, Value]
    history: Mapping[str, int]
    scores: list[float]
    others: list[int]
    measures: list[Mapping[str, float]] = []


class ImpressionRows:
    """Writes and reads impressions in one file."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._known: dict[bytes, float] = {}  # until when values are kept that this process has written
        self._encode = msgspec.json.Encoder().encode
        self._shown = msgspec.json.Decoder(list[str]).decode
        self._told = msgspec.json.Decoder(Told).decode
        self._whole = msgspec.json.Decoder(Impression).decode
        self._values = msgspec.json.Decoder(dict[str, Value]).decode

    def show(self, impressions: Sequence[Impression]) -> int:
        """Keep impressions in one transaction; how many were new."""
        fresh: dict[bytes, tuple[float, bytes]] = {}
        rows = [self._row(one, fresh) for one in impressions]
        with self._database.writing() as connection:
            if fresh:
                connection.executemany(KEEP, [(key, until, body) for key, (until, body) in fresh.items()])
            new = connection.executemany(SHOW, rows).rowcount
        if len(self._known) > KNOWN_VALUES:
            self._known.clear()
        self._known |= {key: until for key, (until, _) in fresh.items()}
        return new

    def between(self, since: float, until: float) -> Iterator[Impression]:
        """The impressions with since <= at < until, oldest first, read a page at a time."""
        at, tie = -math.inf, None
        while rows := self._database.rows(IMPRESSIONS, (max(since, at), until, at, tie, PAGE)):
            values = self._values_of(rows)
            yield from filter(None, (self._impression(row, values) for row in rows))
            at, tie, *_ = rows[-1]

    def forget_known(self) -> None:
        """Take nothing for kept any more: values have been removed."""
        self._known.clear()

    def _row(self, one: Impression, fresh: dict[bytes, tuple[float, bytes]]) -> Row:
        """The row of an impression; values that are not kept for long enough yet are added to `fresh`."""
        values = [packed(item.features) for item in one.items]
        for of_app in values:
            until, _ = fresh.get(of_app.key, (self._known.get(of_app.key, -math.inf), b""))
            if until < one.at:
                fresh[of_app.key] = one.at + KEPT_ON_S, of_app.json
        shown = self._encode([item.app_id for item in one.items])
        scores, others = [item.score for item in one.items], [item.others for item in one.items]
        measures = [item.measures for item in one.items] if any(item.measures for item in one.items) else []
        told = Told(one.version, one.user, one.context, one.history, scores, others, measures)
        keys = b"".join([of_app.key for of_app in values])
        return one.request_id, one.at, one.user_id, shown, self._encode(told), keys

    def _values_of(self, rows: Sequence[Row]) -> dict[bytes, Mapping[str, Value]]:
        keys = iter({key for row in rows for key in _keys(row[5])})
        found: dict[bytes, Mapping[str, Value]] = {}
        while some := list(islice(keys, KEYS_AT_ONCE)):
            asked = f"SELECT key, body FROM app_values WHERE key IN ({', '.join('?' * len(some))})"
            found |= {key: self._values(body) for key, body in self._database.rows(asked, some)}
        return found

    def _impression(self, row: Row, values: Mapping[bytes, Mapping[str, Value]]) -> Impression | None:
        """The impression of a row; None where it was trimmed, with its values, since the row was read."""
        at, _, request_id, user_id, shown, app_values, body = row
        if app_values is None:
            return self._whole(body)  # of a release before values were kept apart
        keys = _keys(app_values)
        if not values.keys() >= set(keys):
            return None
        told = self._told(body)
        measures = told.measures or [{} for _ in keys]
        apps = zip(self._shown(shown), told.scores, told.others, measures, keys, strict=True)
        items = [
            Shown(app_id, place, score, values[key], other, measured)
            for place, (app_id, score, other, measured, key) in enumerate(apps, 1)
        ]
        return Impression(request_id, at, told.version, user_id, told.user, told.context, told.history, tuple(items))


def _keys(joined: bytes | None) -> list[bytes]:
    """The keys of the values of the apps shown, in their order."""
    joined = joined or b""
    return [joined[start : start + KEY_BYTES] for start in range(0, len(joined), KEY_BYTES)]
