"""Leases, rollouts and votes on Redis, and the channel that tells of them."""

from collections.abc import Callable

import msgspec

from service.errors import RolloutUnderWay
from service.store.ports import Lease, Outcome, Rollout, Vote
from service.store.redis_client import RedisLink, Script
from service.store.redis_layout import Keys
from service.store.redis_news import News

VOTES_KEPT_S = 86_400
LEASES_KEPT_S = 86_400

# Answers with the rollout under way where there is one, else with the id of the one begun.
BEGIN = Script("""
local current, last, version, deadline, now, news = KEYS[1], KEYS[2], ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local under_way = redis.call('HMGET', current, 'version', 'deadline')
if under_way[2] and tonumber(under_way[2]) > tonumber(now) then return {0, under_way[1], under_way[2]} end
local id = redis.call('INCR', last)
redis.call('HSET', current, 'id', id, 'version', version, 'deadline', deadline)
redis.call('PUBLISH', news, 'rollout')
return {id, version, deadline}
""")

FINISH = Script("""
if redis.call('HGET', KEYS[1], 'id') ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('PUBLISH', ARGV[3], ARGV[2])
return 1
""")


class RedisRolloutStore:
    """A RolloutStore on Redis.

    clock: epoch seconds, the same for every process; news: where `wait` listens.
    """

    def __init__(self, link: RedisLink, clock: Callable[[], float], *, keys: Keys, news: News) -> None:
        self._link = link
        self._clock = clock
        self._leases, self._votes = keys.rollout("leases"), keys.rollout("votes:")
        self._current, self._last = keys.rollout("current"), keys.rollout("last")
        self._channel = keys.news
        self._news = news
        self._lease = msgspec.json.Decoder(Lease).decode
        self._vote = msgspec.json.Decoder(Vote).decode

    def heartbeat(self, process: str, version: str | None) -> None:
        """Take or renew the process's lease."""
        lease = Lease(process, version, self._clock())
        self._link.ask("HSET", self._leases, process, msgspec.json.encode(lease))

    def leave(self, process: str) -> None:
        """Give the lease back."""
        self._link.ask("HDEL", self._leases, process)

    def leases(self, *, alive_since: float) -> tuple[Lease, ...]:
        """The leases with a heartbeat at or after `alive_since`, by process."""
        leases = [self._lease(row) for row in self._link.ask("HVALS", self._leases)]
        return tuple(sorted((one for one in leases if one.beat_at >= alive_since), key=lambda one: one.process))

    def begin(self, version: str, *, deadline: float) -> Rollout:
        """Begin a rollout in the place of one that is past its deadline. Raises RolloutUnderWay."""
        now = self._clock()
        asked = [version, repr(deadline), repr(now), self._channel]
        rollout_id, its_version, its_deadline = self._link.run(BEGIN, [self._current, self._last], asked)
        if not rollout_id:
            raise RolloutUnderWay(its_version.decode(), remaining_s=float(its_deadline) - now)
        self._drop_leases(before=now - LEASES_KEPT_S)
        return Rollout(rollout_id, version, deadline)

    def current(self) -> Rollout | None:
        """The rollout under way, None where there is none or it is past its deadline."""
        rollout_id, version, deadline = self._link.ask("HMGET", self._current, "id", "version", "deadline")
        if rollout_id is None or float(deadline) <= self._clock():
            return None
        return Rollout(int(rollout_id), version.decode(), float(deadline))

    def vote(self, rollout: int, vote: Vote) -> None:
        """Answer for one process; its later answer replaces its earlier one."""
        votes = f"{self._votes}{rollout}"
        put = ("HSET", votes, vote.process, msgspec.json.encode(vote))
        self._link.together([put, ("EXPIRE", votes, VOTES_KEPT_S)])

    def votes(self, rollout: int) -> tuple[Vote, ...]:
        """The answers so far, by process."""
        votes = [self._vote(row) for row in self._link.ask("HVALS", f"{self._votes}{rollout}")]
        return tuple(sorted(votes, key=lambda vote: vote.process))

    def finish(self, rollout: int, outcome: Outcome) -> None:
        """End the rollout, and tell the others how."""
        self._link.run(FINISH, [self._current], [rollout, outcome, self._channel])

    def wait(self, timeout_s: float) -> None:
        """Return when a rollout began or ended, a version went live or an app changed; at the latest after this long.

        One thread of a process waits; where Redis is away it only pauses, and looks again when it is called again.
        """
        self._news.wait(timeout_s)

    def _drop_leases(self, *, before: float) -> None:
        """Forget processes that died long ago; whoever begins a rollout has the time for it."""
        if dead := [lease.process for lease in self.leases(alive_since=0.0) if lease.beat_at < before]:
            self._link.ask("HDEL", self._leases, *dead)
