"""Users on Redis, and the FeatureStore of both users and apps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice

import msgspec

from service.store.histories import by_user, changed
from service.store.ports import AppChanges, AppPages, AppRecord, HistoryChange, UserRecord
from service.store.redis_apps import RedisApps
from service.store.redis_client import Command, RedisLink, Script
from service.store.redis_layout import Keys

Features = dict[str, str | int | float | bool | list[str] | None]

PAGE = 500

# Puts all of these histories or none, and only where each still is what the new one was made from.
PUT_HISTORIES = Script("""
for n, key in ipairs(KEYS) do
    if (redis.call('HGET', key, 'history') or '') ~= ARGV[2 * n - 1] then return 0 end
end
for n, key in ipairs(KEYS) do
    redis.call('HSETNX', key, 'features', '{}')
    redis.call('HSET', key, 'history', ARGV[2 * n])
end
return 1
""")


class RedisFeatureStore:
    """A FeatureStore on Redis.

    quick: for what a ranking waits for; patient: for everything else. On a cluster, users lie on different servers:
    what is promised of a batch of users holds for each of them there, and a batch that broke off may be sent again.
    """

    def __init__(self, quick: RedisLink, patient: RedisLink, *, keys: Keys) -> None:
        self._quick, self._patient = quick, patient
        self._prefix = keys.users
        self._apps = RedisApps(patient, keys)
        self._encode = msgspec.json.Encoder().encode
        self._features = msgspec.json.Decoder(Features).decode
        self._history = msgspec.json.Decoder(dict[str, int]).decode

    def put_users(self, records: Iterable[UserRecord]) -> None:
        """Insert or replace users in one transaction."""
        self._patient.each([self._put(user) for user in records], whole=True)

    def get_user(self, user_id: str) -> UserRecord | None:
        """The user, None where there is none; one command."""
        return self._user(user_id, self._quick.ask(*self._get(user_id)))

    def get_users(self, user_ids: Sequence[str]) -> tuple[UserRecord | None, ...]:
        """Each user, None where there is none; a command each, sent together."""
        if len(user_ids) == 1:
            return (self.get_user(user_ids[0]),)  # a pipeline of one costs more
        return tuple(map(self._user, user_ids, self._quick.each([self._get(user_id) for user_id in user_ids])))

    def delete_user(self, user_id: str) -> bool:
        """Forget the user; False where there was none."""
        return bool(self._patient.ask("DEL", self._prefix + user_id))

    def change_history(self, changes: Iterable[HistoryChange]) -> None:
        """Put apps into users' histories or take them out, in one transaction."""
        asked = by_user(changes)
        for users in [[user_id] for user_id in asked] if self._patient.clustered else [list(asked)]:
            while not self._changed(users, asked):
                pass  # another was quicker with one of these users: once more, from what that one made of it

    def users(self) -> Iterator[UserRecord]:
        """Every user, a page at a time."""
        keys, told = self._patient.keys(self._prefix), set[str]()
        while page := [key.decode().removeprefix(self._prefix) for key in islice(keys, PAGE)]:
            fresh = [user_id for user_id in dict.fromkeys(page) if user_id not in told]
            told.update(fresh)
            rows = self._patient.each([self._get(user_id) for user_id in fresh])
            yield from filter(None, map(self._user, fresh, rows))

    def put_apps(self, records: Iterable[AppRecord]) -> int:
        """Insert or replace apps in one script, all changed ones under one new sequence number."""
        return self._apps.put(records)

    def get_app(self, app_id: str) -> AppRecord | None:
        """The app, None where there is none or it was deleted."""
        return self._apps.get(app_id)

    def delete_app(self, app_id: str) -> bool:
        """Leave of the app only its place among the changes; False where there was none."""
        return self._apps.delete(app_id)

    def apps_since(self, sequence: int) -> AppChanges:
        """What changed after `sequence`, in order of change."""
        return self._apps.since(sequence)

    def app_pages(self) -> AppPages:
        """The whole catalogue, a page at a time."""
        return self._apps.pages()

    def ping(self) -> None:
        """Read a key, as a ranking does."""
        self._quick.ask("EXISTS", self._prefix)

    def _get(self, user_id: str) -> Command:
        return "HMGET", self._prefix + user_id, "features", "history"

    def _put(self, user: UserRecord) -> Command:
        features, history = self._encode(user.features), self._encode(user.history)
        return "HSET", self._prefix + user.id, "features", features, "history", history

    def _user(self, user_id: str, row: Sequence[bytes | None]) -> UserRecord | None:
        features, history = row
        if features is None or history is None:
            return None
        return UserRecord(user_id, self._features(features), self._history(history))

    def _changed(self, users: Sequence[str], asked: Mapping[str, Sequence[HistoryChange]]) -> bool:
        """Change the histories of these users; False where one of them was changed meanwhile, and then none is."""
        found = self._patient.each([("HGET", self._prefix + user_id, "history") for user_id in users])
        changes = {}
        for user_id, history in zip(users, found, strict=True):
            before = self._history(history) if history else {}
            if (after := changed(before, asked[user_id])) != before:
                changes[self._prefix + user_id] = (history or b"", self._encode(after))
        return not changes or bool(self._patient.run(PUT_HISTORIES, [*changes], [*chain(*changes.values())]))
