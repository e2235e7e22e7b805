"""Impressions and feedback in the embedded log's file."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict

import msgspec

from service.store.log_ports import FORGOTTEN_KEPT_S, Displayed, Feedback, Impression, LogCounts, Taken
from service.store.sqlite import Database, Row
from service.store.sqlite_impressions import TRIM_VALUES, ImpressionRows

PAGE = 500
TRIMMED_AT_ONCE = 5_000
"""Rows a transaction: few enough that whoever writes meanwhile gets a turn between two."""

DISPLAYED = """
SELECT request_id, at, user_id, shown FROM impressions WHERE request_id IN (SELECT value FROM json_each(?))"""

KNOWN = "SELECT id, digest FROM feedback WHERE id IN (SELECT value FROM json_each(?))"
TAKE = "INSERT INTO feedback (id, at, user_id, request_id, digest, body) VALUES (?, ?, ?, ?, ?, ?)"

WAITING = """
SELECT place FROM feedback WHERE NOT settled AND (claimed_at IS NULL OR claimed_at <= ?) ORDER BY place LIMIT ?"""
CLAIM = f"""
UPDATE feedback SET claimed_at = ?, claimed_by = ? WHERE place IN ({WAITING}) RETURNING place, body"""
SETTLE = "UPDATE feedback SET settled = 1 WHERE NOT settled AND id IN (SELECT value FROM json_each(?))"

FEEDBACK = """
SELECT at, id, body FROM feedback WHERE at >= ? AND at < ? AND (at > ? OR id > ?) ORDER BY at, id LIMIT ?"""

FORGOTTEN = """
INSERT INTO forgotten (user_id, at) VALUES (?, ?) ON CONFLICT (user_id) DO UPDATE SET at = excluded.at"""
FORGET = (
    "DELETE FROM feedback WHERE request_id IN (SELECT request_id FROM impressions WHERE user_id = ?)",
    "DELETE FROM feedback WHERE user_id = ?",
    "DELETE FROM impressions WHERE user_id = ?",
)
TRIM = (
    ("DELETE FROM impressions WHERE id IN (SELECT id FROM impressions WHERE at < :before LIMIT :some)"),
    ("DELETE FROM feedback WHERE place IN (SELECT place FROM feedback WHERE at < :before LIMIT :some)"),
    (
        "DELETE FROM impressions WHERE id IN (SELECT id FROM impressions ORDER BY at, id "
        "LIMIT min(:some, max(0, (SELECT count(*) FROM impressions) - :impressions)))"
    ),
    (
        "DELETE FROM feedback WHERE place IN (SELECT place FROM feedback ORDER BY at, id "
        "LIMIT min(:some, max(0, (SELECT count(*) FROM feedback) - :feedback)))"
    ),
)


class SqliteEventLog:
    """An EventLog in a file of its own; `clock` gives the epoch seconds of claims, the same for every process."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._encode = msgspec.json.Encoder().encode
        self._impressions = ImpressionRows(database)
        self._feedback = msgspec.json.Decoder(Feedback).decode
        self._shown = msgspec.json.Decoder(frozenset[str]).decode

    def show(self, impressions: Iterable[Impression]) -> int:
        """Keep impressions in one transaction; how many were new."""
        return self._impressions.show(list(impressions))

    def displayed(self, request_ids: Iterable[str]) -> Mapping[str, Displayed]:
        """What was shown under these request ids, those that are known."""
        rows = self._database.rows(DISPLAYED, (self._encode(list(request_ids)),))
        return {
            request_id: Displayed(request_id, at, user_id, self._shown(shown))
            for request_id, at, user_id, shown in rows
        }

    def take(self, feedback: Sequence[Feedback]) -> tuple[Taken, ...]:
        """Keep events in one transaction, on disk when this returns; what became of each."""
        asked = self._encode([one.id for one in feedback])
        taken: list[Taken] = []
        new: list[Row] = []
        with self._database.writing() as connection:
            digests = dict(connection.execute(KNOWN, (asked,)).fetchall())
            for one in feedback:
                digest = one.digest
                if one.id in digests:
                    taken.append(Taken.SAME if digests[one.id] == digest else Taken.OTHER)
                    continue
                digests[one.id] = digest
                taken.append(Taken.NEW)
                new.append((one.id, one.at, one.user_id, one.request_id, digest, self._encode(one)))
            connection.executemany(TAKE, new)
        return tuple(taken)

    def claim(self, consumer: str, *, count: int, idle_s: float) -> tuple[Feedback, ...]:
        """Up to `count` events that nobody has settled or lately claimed, in the order in which they were taken."""
        now = self._clock()
        if self._database.row(WAITING, (now - idle_s, 1)) is None:
            return ()  # most of the time nothing waits, and a look costs the disk no write
        with self._database.writing() as connection:
            rows = connection.execute(CLAIM, (now, consumer, now - idle_s, count)).fetchall()
        return tuple(self._feedback(body) for _, body in sorted(rows))

    def settle(self, ids: Iterable[str]) -> None:
        """Say that these claimed events have been dealt with."""
        with self._database.writing() as connection:
            connection.execute(SETTLE, (self._encode(list(ids)),))

    def impressions(self, since: float, until: float) -> Iterator[Impression]:
        """The impressions with since <= at < until, oldest first."""
        return self._impressions.between(since, until)

    def feedback(self, since: float, until: float) -> Iterator[Feedback]:
        """The events with since <= at < until, in order of `at`, ties by id."""
        at, tie = -math.inf, None
        while rows := self._database.rows(FEEDBACK, (max(since, at), until, at, tie, PAGE)):
            yield from (self._feedback(body) for *_, body in rows)
            at, tie, _ = rows[-1]

    def forget_user(self, user_id: str) -> int:
        """Remove every impression of a user and every event that names the user or one of those impressions."""
        with self._database.writing() as connection:
            connection.execute(FORGOTTEN, (user_id, self._clock()))
            return sum(connection.execute(statement, (user_id,)).rowcount for statement in FORGET)

    def trim(self, *, before: float, keep: LogCounts) -> int:
        """Remove what is older than `before`, and of each kind what is past the newest `keep`, some at a time."""
        asked = {"before": before, "some": TRIMMED_AT_ONCE, **asdict(keep)}
        with self._database.writing() as connection:
            connection.execute("DELETE FROM forgotten WHERE at < ?", (self._clock() - FORGOTTEN_KEPT_S,))
        gone = sum(self._trim(statement, asked) for statement in TRIM)
        if self._trim(TRIM_VALUES, asked):
            self._impressions.forget_known()
        return gone

    def counts(self) -> LogCounts:
        """How much there is."""
        sql = "SELECT (SELECT count(*) FROM impressions), (SELECT count(*) FROM feedback)"
        ((impressions, feedback),) = self._database.rows(sql)
        return LogCounts(impressions, feedback)

    def _trim(self, statement: str, asked: Mapping[str, float]) -> int:
        gone = 0
        while True:
            with self._database.writing() as connection:
                some = connection.execute(statement, asked).rowcount
            gone += some
            if some < asked["some"]:
                return gone
