"""Taking rows out of the log on Redis together with everything that leads to them."""

from collections.abc import Iterator, Sequence

import msgspec

from service.store.log_ports import Feedback
from service.store.redis_client import Command, RedisLink
from service.store.redis_layout import Keys
from service.store.redis_log_scripts import DIGEST_LENGTH, GROUP

PART = 1_000
"""Ids that one command names."""


class LogRemoval:
    """Removes impressions by request id and events by event id, all that are asked for at once or none."""

    def __init__(self, link: RedisLink, keys: Keys) -> None:
        self._link = link
        self._key = keys.log
        self._told = msgspec.json.Decoder(tuple[float, str, list[str]]).decode
        self._event = msgspec.json.Decoder(Feedback).decode

    def remove(self, *, request_ids: Sequence[str] = (), event_ids: Sequence[str] = ()) -> int:
        """Remove these rows, those that are there; how many were."""
        commands = [command for ids in _parts(request_ids) for command in self._impressions(ids)]
        commands += [command for ids in _parts(event_ids) for command in self._feedback(ids)]
        rows = self._key("impressions"), self._key("feedback")
        answers: list[int] = self._link.together(commands)
        return sum(gone for command, gone in zip(commands, answers, strict=True) if command[1] in rows)

    def of_user(self, user_id: str) -> int:
        """Remove a user's impressions, the events that name one of those, and the events that name the user."""
        names = [name.decode() for name in self._link.ask("SMEMBERS", self._key(f"user:{user_id}"))]
        request_ids = [name[1:] for name in names if name[0] == "i"]
        told = self._link.together([("SMEMBERS", self._key(f"request:{one}")) for one in request_ids])
        event_ids = {name[1:] for name in names if name[0] == "e"} | {one.decode() for ids in told for one in ids}
        return self.remove(request_ids=request_ids, event_ids=sorted(event_ids))

    def _impressions(self, ids: Sequence[str]) -> Iterator[Command]:
        rows = self._link.ask("HMGET", self._key("displayed"), *ids)
        yield "HDEL", self._key("impressions"), *ids
        yield "HDEL", self._key("displayed"), *ids
        yield "ZREM", self._key("impressions:at"), *ids
        for request_id, row in zip(ids, rows, strict=True):
            if row:
                yield "SREM", self._key(f"user:{self._told(row)[1]}"), f"i{request_id}"

    def _feedback(self, ids: Sequence[str]) -> Iterator[Command]:
        asked = [("HMGET", self._key(name), *ids) for name in ("feedback", "places")]
        rows, places = self._link.together(asked)
        yield "HDEL", self._key("feedback"), *ids
        yield "HDEL", self._key("places"), *ids
        yield "ZREM", self._key("feedback:at"), *ids
        if waiting := [place for place in places if place]:
            yield "XACK", self._key("unsettled"), GROUP, *waiting
            yield "XDEL", self._key("unsettled"), *waiting
        for event in (self._event(row[DIGEST_LENGTH:]) for row in rows if row):
            yield from self._unindexed(event)

    def _unindexed(self, event: Feedback) -> Iterator[Command]:
        if event.user_id is not None:
            yield "SREM", self._key(f"user:{event.user_id}"), f"e{event.id}"
        if event.request_id is not None:
            yield "SREM", self._key(f"request:{event.request_id}"), event.id


def _parts(ids: Sequence[str]) -> Iterator[Sequence[str]]:
    return (ids[first : first + PART] for first in range(0, len(ids), PART))
