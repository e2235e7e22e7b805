"""Versions, the live pointer and the history on Redis."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import chain

import msgspec

from service.errors import UnknownVersion, VersionExists
from service.states import State, check_transition
from service.store.ports import HistoryEntry, Note, VersionEntry
from service.store.redis_client import RedisLink, Row, Script
from service.store.redis_layout import Keys

# Entries, live pointer and history change together, and only while the pointer and every entry named are what the
# change was made from; an entry that is not there is ''. Says whether they did.
CHANGE = Script("""
local versions, live, history = KEYS[1], KEYS[2], KEYS[3]
local seen_live, next_live, news, count = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
if (redis.call('GET', live) or '') ~= seen_live then return 0 end
for n = 5, 4 + 3 * count, 3 do
    if (redis.call('HGET', versions, ARGV[n]) or '') ~= ARGV[n + 1] then return 0 end
end
for n = 5, 4 + 3 * count, 3 do redis.call('HSET', versions, ARGV[n], ARGV[n + 2]) end
for n = 5 + 3 * count, #ARGV do redis.call('RPUSH', history, ARGV[n]) end
if next_live ~= seen_live then
    redis.call('SET', live, next_live)
    redis.call('PUBLISH', news, 'live')
end
return 1
""")


@dataclass(frozen=True)
class Move:
    """One version's next entry, and what the history says of it; seen: the entry it is made from, as it was read."""

    seen: bytes
    entry: VersionEntry
    was: State | None
    note: Note


class RedisRegistryIndex:
    """A RegistryIndex on Redis; `clock` gives the history its epoch seconds."""

    def __init__(self, link: RedisLink, clock: Callable[[], float], *, keys: Keys) -> None:
        self._link = link
        self._clock = clock
        self._versions, self._live = keys.registry("versions"), keys.registry("live")
        self._history = keys.registry("history")
        self._news = keys.news
        self._entry = msgspec.json.Decoder(VersionEntry).decode
        self._told = msgspec.json.Decoder(HistoryEntry).decode

    def add(self, entry: VersionEntry, *, note: Note) -> None:
        """Enter a new version. Raises VersionExists where it is known."""
        while True:
            seen, live = self._seen(entry.version)
            if seen:
                raise VersionExists(entry.version)
            if self._make([*self._retired(live, entry, note), Move(b"", entry, None, note)], live):
                return

    def get(self, version: str) -> VersionEntry | None:
        """The entry, None where there is none."""
        row = self._link.ask("HGET", self._versions, version)
        return self._entry(row) if row else None

    def all(self) -> tuple[VersionEntry, ...]:
        """Every entry, oldest version first."""
        entries = [self._entry(row) for row in self._link.ask("HVALS", self._versions)]
        return tuple(sorted(entries, key=lambda entry: entry.version))

    def move(self, version: str, to: State, *, note: Note, report: str | None = None) -> None:
        """Move a version, and retire the former live one where it goes live; again where another was quicker."""
        while True:
            seen, live = self._seen(version)
            if not seen:
                raise UnknownVersion(version)
            entry = self._entry(seen)
            check_transition(version, entry.state, to, force=note.force)
            moved = replace(entry, state=to, report=entry.report if report is None else report)
            if self._make([*self._retired(live, moved, note), Move(seen, moved, entry.state, note)], live):
                return

    def live(self) -> str | None:
        """The live pointer, None before the first."""
        live = self._link.ask("GET", self._live)
        return live.decode() if live else None

    def history(self) -> tuple[HistoryEntry, ...]:
        """Every move, oldest first."""
        return tuple(self._told(row) for row in self._link.ask("LRANGE", self._history, 0, -1))

    def _seen(self, version: str) -> tuple[bytes, str]:
        """The version's entry and the live pointer as they are now, empty where there is none."""
        entry, live = self._link.together([("HGET", self._versions, version), ("GET", self._live)])
        return entry or b"", (live or b"").decode()

    def _retired(self, live: str, following: VersionEntry, note: Note) -> list[Move]:
        """What becomes of the live version, if there is one, when another goes live."""
        if not live or following.state is not State.LIVE:
            return []
        seen = self._link.ask("HGET", self._versions, live)
        retired = replace(self._entry(seen), state=State.RETIRED)
        return [Move(seen, retired, State.LIVE, Note(note.who, f"{following.version} took its place"))]

    def _make(self, moves: Sequence[Move], live: str) -> bool:
        """Make the moves while the live pointer is `live`; False where anything was changed meanwhile."""
        following = next((move.entry.version for move in moves if move.entry.state is State.LIVE), live)
        entries: list[Row] = [(one.entry.version, one.seen, msgspec.json.encode(one.entry)) for one in moves]
        told = (msgspec.json.encode(self._move(move)) for move in moves)
        keys = [self._versions, self._live, self._history]
        return bool(self._link.run(CHANGE, keys, [live, following, self._news, len(moves), *chain(*entries), *told]))

    def _move(self, move: Move) -> HistoryEntry:
        entry, note = move.entry, move.note
        return HistoryEntry(self._clock(), entry.version, move.was, entry.state, note.who, note.why, forced=note.force)
