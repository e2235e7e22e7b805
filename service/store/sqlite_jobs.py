"""Jobs, their lines and their leases in the embedded store."""

from collections.abc import Mapping
from typing import Any

import msgspec

from service.store.job_ports import LINES_KEPT, Job, JobLine, JobState
from service.store.sqlite import Database, Row

COLUMNS = "id, kind, options, who, queued_at, state, attempt, began_at, ended_at, progress, result, cancel_asked"
OPEN = f"state IN ('{JobState.QUEUED}', '{JobState.RUNNING}')"

ADD = f"INSERT INTO jobs ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO NOTHING"

BEGIN = f"""
UPDATE jobs SET state = '{JobState.RUNNING}', attempt = attempt + 1, began_at = ?
WHERE id = ? AND {OPEN} RETURNING {COLUMNS}"""

PUT_BACK = f"""
UPDATE jobs SET state = '{JobState.QUEUED}', attempt = attempt - 1 WHERE id = ? AND state = '{JobState.RUNNING}'"""

SAY = "INSERT INTO job_lines (job, at, text) SELECT id, ?, ? FROM jobs WHERE id = ?"

TRIM = """
DELETE FROM job_lines WHERE job = ? AND id <= (
    SELECT id FROM job_lines WHERE job = ? ORDER BY id DESC LIMIT 1 OFFSET ?)"""

TAKE_LEASE = """
INSERT INTO job_leases (name, holder, until) VALUES (?, ?, ?)
ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
WHERE job_leases.holder = excluded.holder OR job_leases.until <= ?"""


class SqliteJobStore:
    """A JobStore in the embedded store's file."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, job: Job) -> None:
        """Enter a job with its lines; one of that id that is known already stays as it is."""
        with self._database.writing() as connection:
            if connection.execute(ADD, _row(job)).rowcount:
                connection.executemany(SAY, ((line.at, line.text, job.id) for line in job.lines))

    def get(self, job_id: str) -> Job | None:
        """The job with its lines, None where there is none."""
        row = self._database.row(f"SELECT {COLUMNS} FROM jobs WHERE id = ?", (job_id,))
        lines = self._database.rows("SELECT at, text FROM job_lines WHERE job = ? ORDER BY id", (job_id,))
        return _job(row, tuple(JobLine(*line) for line in lines)) if row else None

    def all(self, *, limit: int) -> tuple[Job, ...]:
        """The newest `limit` jobs, newest first, without their lines."""
        sql = f"SELECT {COLUMNS} FROM jobs ORDER BY queued_at DESC, id DESC LIMIT ?"
        return tuple(_job(row) for row in self._database.rows(sql, (limit,)))

    def begin(self, job_id: str, *, at: float) -> Job | None:
        """Count one more attempt and set it running; None where it is unknown or has ended."""
        with self._database.writing() as connection:
            rows = connection.execute(BEGIN, (at, job_id)).fetchall()
        return _job(rows[0]) if rows else None

    def put_back(self, job_id: str) -> None:
        """Queue a running job again as if its last attempt had not begun."""
        with self._database.writing() as connection:
            connection.execute(PUT_BACK, (job_id,))

    def report(self, job_id: str, progress: Mapping[str, Any]) -> None:
        """Replace the progress of a job."""
        with self._database.writing() as connection:
            connection.execute("UPDATE jobs SET progress = ? WHERE id = ?", (msgspec.json.encode(progress), job_id))

    def say(self, job_id: str, line: JobLine) -> None:
        """Add a line to a job's log, none where the job is unknown; past LINES_KEPT the oldest go."""
        with self._database.writing() as connection:
            connection.execute(SAY, (line.at, line.text, job_id))
            connection.execute(TRIM, (job_id, job_id, LINES_KEPT))

    def end(self, job_id: str, state: JobState, *, at: float, result: Mapping[str, Any]) -> bool:
        """End a job that has not ended; False where it has."""
        sql = f"UPDATE jobs SET state = ?, ended_at = ?, result = ? WHERE id = ? AND {OPEN}"
        with self._database.writing() as connection:
            return connection.execute(sql, (state, at, msgspec.json.encode(result), job_id)).rowcount > 0

    def ask_cancel(self, job_id: str) -> bool:
        """Ask for a job's end; False where it has ended or is unknown."""
        with self._database.writing() as connection:
            sql = f"UPDATE jobs SET cancel_asked = 1 WHERE id = ? AND {OPEN}"
            return connection.execute(sql, (job_id,)).rowcount > 0

    def forget(self, *, before: float) -> int:
        """Remove jobs that ended before this, and their lines; how many."""
        with self._database.writing() as connection:
            sql = f"DELETE FROM jobs WHERE NOT {OPEN} AND ended_at < ? RETURNING id"
            gone = connection.execute(sql, (before,)).fetchall()
            connection.executemany("DELETE FROM job_lines WHERE job = ?", gone)
        return len(gone)

    def take_lease(self, name: str, holder: str, *, now: float, until: float) -> bool:
        """Take or renew the lease; False where another holds it and it is not over at `now`."""
        with self._database.writing() as connection:
            return connection.execute(TAKE_LEASE, (name, holder, until, now)).rowcount > 0

    def drop_lease(self, name: str, holder: str) -> None:
        """Give the lease back; nothing where another holds it."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM job_leases WHERE name = ? AND holder = ?", (name, holder))

    def lease_holder(self, name: str, *, now: float) -> str | None:
        """Who holds the lease at `now`, None where nobody does."""
        row = self._database.row("SELECT holder FROM job_leases WHERE name = ? AND until > ?", (name, now))
        return row[0] if row else None


def _row(job: Job) -> Row:
    times = (job.began_at, job.ended_at)
    result = None if job.result is None else msgspec.json.encode(job.result)
    described = (job.id, job.kind, msgspec.json.encode(job.options), job.who, job.queued_at, job.state, job.attempt)
    return *described, *times, msgspec.json.encode(job.progress), result, job.cancel_asked


def _job(row: Row, lines: tuple[JobLine, ...] = ()) -> Job:
    job_id, kind, options, who, queued_at, state, attempt, began_at, ended_at, progress, result, cancel_asked = row
    return Job(
        id=job_id,
        kind=kind,
        options=msgspec.json.decode(options),
        who=who,
        queued_at=queued_at,
        state=JobState(state),
        attempt=attempt,
        began_at=began_at,
        ended_at=ended_at,
        progress=msgspec.json.decode(progress),
        result=None if result is None else msgspec.json.decode(result),
        cancel_asked=bool(cancel_asked),
        lines=lines,
    )
