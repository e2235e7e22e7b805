"""Jobs, their lines and their leases on Redis."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from itertools import chain
from typing import Any

import msgspec

from service.store.job_ports import LINES_KEPT, Job, JobLine, JobState
from service.store.redis_client import Argument, RedisLink, Row, Script
from service.store.redis_layout import Keys

FIELDS = tuple(one.name for one in fields(Job) if one.name not in ("id", "lines"))

# Fields are JSON, so that a text has its quotes.
OPEN = f"""(state == '"{JobState.QUEUED}"' or state == '"{JobState.RUNNING}"')"""

# ARGV: id, queued_at, ended_at or '', how many fields, the fields by turns with their values, lines.
ADD = Script("""
local job, lines, queued, ended = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
if redis.call('EXISTS', job) == 1 then return 0 end
local last = 4 + 2 * tonumber(ARGV[4])
for n = 5, last, 2 do redis.call('HSET', job, ARGV[n], ARGV[n + 1]) end
for n = last + 1, #ARGV do redis.call('RPUSH', lines, ARGV[n]) end
redis.call('ZADD', queued, ARGV[2], ARGV[1])
if ARGV[3] ~= '' then redis.call('ZADD', ended, ARGV[3], ARGV[1]) end
return 1
""")

BEGIN = Script(f"""
local state = redis.call('HGET', KEYS[1], 'state')
if not {OPEN} then return {{}} end
redis.call('HINCRBY', KEYS[1], 'attempt', 1)
redis.call('HSET', KEYS[1], 'state', '"{JobState.RUNNING}"', 'began_at', ARGV[1])
return redis.call('HMGET', KEYS[1], unpack(ARGV, 2))
""")

PUT_BACK = Script(f"""
if redis.call('HGET', KEYS[1], 'state') ~= '"{JobState.RUNNING}"' then return end
redis.call('HINCRBY', KEYS[1], 'attempt', -1)
redis.call('HSET', KEYS[1], 'state', '"{JobState.QUEUED}"')
""")

SET_WHERE_KNOWN = Script("""
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
""")

SET_WHERE_OPEN = Script(f"""
local state = redis.call('HGET', KEYS[1], 'state')
if not {OPEN} then return 0 end
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
return 1
""")

SAY = Script(f"""
if redis.call('EXISTS', KEYS[1]) == 0 then return end
redis.call('RPUSH', KEYS[2], ARGV[1])
redis.call('LTRIM', KEYS[2], -{LINES_KEPT}, -1)
""")

END = Script(f"""
local state = redis.call('HGET', KEYS[1], 'state')
if not {OPEN} then return 0 end
redis.call('HSET', KEYS[1], 'state', ARGV[2], 'ended_at', ARGV[3], 'result', ARGV[4])
redis.call('ZADD', KEYS[2], ARGV[3], ARGV[1])
return 1
""")

# A full Redis takes it too, or nobody could trim one: leases are few, and as small as before.
TAKE_LEASE = Script("""#!lua flags=allow-oom
local held = redis.call('HMGET', KEYS[1], 'holder', 'until')
if held[1] and held[1] ~= ARGV[1] and tonumber(held[2]) > tonumber(ARGV[2]) then return 0 end
redis.call('HSET', KEYS[1], 'holder', ARGV[1], 'until', ARGV[3])
return 1
""")

DROP_LEASE = Script("""
if redis.call('HGET', KEYS[1], 'holder') == ARGV[1] then redis.call('DEL', KEYS[1]) end
""")


class RedisJobStore:
    """A JobStore on Redis."""

    def __init__(self, link: RedisLink, *, keys: Keys) -> None:
        self._link = link
        self._jobs, self._lines, self._leases = keys.jobs("job:"), keys.jobs("lines:"), keys.jobs("lease:")
        self._queued, self._ended = keys.jobs("queued"), keys.jobs("ended")

    def add(self, job: Job) -> None:
        """Enter a job with its lines; one of that id that is known already stays as it is."""
        row: list[Row] = [*_fields(job).items()]
        ended_at = repr(job.ended_at) if job.state.ended and job.ended_at is not None else ""
        described: list[Argument] = [job.id, repr(job.queued_at), ended_at, len(row), *chain(*row)]
        lines = [msgspec.json.encode(line) for line in job.lines]
        self._link.run(ADD, [*self._keys(job.id), self._queued, self._ended], [*described, *lines])

    def get(self, job_id: str) -> Job | None:
        """The job with its lines, None where there is none."""
        job, lines = self._keys(job_id)
        row, said = self._link.together([("HMGET", job, *FIELDS), ("LRANGE", lines, 0, -1)])
        return _job(job_id, row, lines=said)

    def all(self, *, limit: int) -> tuple[Job, ...]:
        """The newest `limit` jobs, newest first, without their lines."""
        if limit < 1:
            return ()
        ids = [job_id.decode() for job_id in self._link.ask("ZREVRANGE", self._queued, 0, limit - 1)]
        rows = self._link.together([("HMGET", self._jobs + job_id, *FIELDS) for job_id in ids])
        return tuple(filter(None, map(_job, ids, rows)))

    def begin(self, job_id: str, *, at: float) -> Job | None:
        """Count one more attempt and set it running; None where it is unknown or has ended."""
        return _job(job_id, self._link.run(BEGIN, [self._jobs + job_id], [repr(at), *FIELDS]))

    def put_back(self, job_id: str) -> None:
        """Queue a running job again as if its last attempt had not begun."""
        self._link.run(PUT_BACK, [self._jobs + job_id], [])

    def report(self, job_id: str, progress: Mapping[str, Any]) -> None:
        """Replace the progress of a job."""
        self._link.run(SET_WHERE_KNOWN, [self._jobs + job_id], ["progress", msgspec.json.encode(progress)])

    def say(self, job_id: str, line: JobLine) -> None:
        """Add a line to a job's log, none where the job is unknown; past LINES_KEPT the oldest go."""
        self._link.run(SAY, self._keys(job_id), [msgspec.json.encode(line)])

    def end(self, job_id: str, state: JobState, *, at: float, result: Mapping[str, Any]) -> bool:
        """End a job that has not ended; False where it has."""
        asked: Row = (job_id, msgspec.json.encode(state), repr(at), msgspec.json.encode(result))
        return bool(self._link.run(END, [self._jobs + job_id, self._ended], asked))

    def ask_cancel(self, job_id: str) -> bool:
        """Ask for a job's end; False where it has ended or is unknown."""
        return bool(self._link.run(SET_WHERE_OPEN, [self._jobs + job_id], ["cancel_asked", "true"]))

    def forget(self, *, before: float) -> int:
        """Remove jobs that ended before this, and their lines; how many."""
        ids = [one.decode() for one in self._link.ask("ZRANGEBYSCORE", self._ended, "-inf", f"({before!r}")]
        return sum(self._forget(job_id) for job_id in ids)

    def take_lease(self, name: str, holder: str, *, now: float, until: float) -> bool:
        """Take or renew the lease; False where another holds it and it is not over at `now`."""
        return bool(self._link.run(TAKE_LEASE, [self._leases + name], [holder, repr(now), repr(until)]))

    def drop_lease(self, name: str, holder: str) -> None:
        """Give the lease back; nothing where another holds it."""
        self._link.run(DROP_LEASE, [self._leases + name], [holder])

    def lease_holder(self, name: str, *, now: float) -> str | None:
        """Who holds the lease at `now`, None where nobody does."""
        holder, until = self._link.ask("HMGET", self._leases + name, "holder", "until")
        return holder.decode() if holder is not None and float(until) > now else None

    def _forget(self, job_id: str) -> int:
        removals = [("ZREM", self._ended, job_id), ("ZREM", self._queued, job_id)]
        gone, *_ = self._link.together([*removals, *(("DEL", key) for key in self._keys(job_id))])
        return int(gone)

    def _keys(self, job_id: str) -> list[str]:
        return [self._jobs + job_id, self._lines + job_id]


def _fields(job: Job) -> dict[str, bytes]:
    """FIELDS of a job as JSON, those that are None left out."""
    values = {name: getattr(job, name) for name in FIELDS}
    return {name: msgspec.json.encode(value) for name, value in values.items() if value is not None}


def _job(job_id: str, row: Sequence[bytes | None], *, lines: Iterable[bytes] = ()) -> Job | None:
    """The job of which these are FIELDS, None where it has none; together they make one JSON object."""
    members = {name: value for name, value in zip(FIELDS, row, strict=False) if value is not None}
    if not members:
        return None
    members |= {"id": msgspec.json.encode(job_id), "lines": b"[" + b",".join(lines) + b"]"}
    joined = b",".join(b'"%b":%b' % (name.encode(), value) for name, value in members.items())
    return msgspec.json.decode(b"{" + joined + b"}", type=Job)
