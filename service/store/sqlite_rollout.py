"""Leases, rollouts and votes in the embedded store."""

import time
from collections.abc import Callable

from service.errors import RolloutUnderWay
from service.store.ports import Lease, Outcome, Rollout, Vote
from service.store.sqlite import Database

BEAT = """
INSERT INTO leases (process, version, beat_at) VALUES (?, ?, ?)
ON CONFLICT (process) DO UPDATE SET version = excluded.version, beat_at = excluded.beat_at"""

UNDER_WAY = "SELECT id, version, deadline FROM rollouts WHERE outcome IS NULL AND deadline > ?"

VOTE = """
INSERT INTO votes (rollout, process, ok, detail) VALUES (?, ?, ?, ?)
ON CONFLICT (rollout, process) DO UPDATE SET ok = excluded.ok, detail = excluded.detail"""


class SqliteRolloutStore:
    """A RolloutStore in the embedded store's file.

    clock: epoch seconds, the same for every process; pause: waits for so many seconds.
    """

    def __init__(
        self, database: Database, clock: Callable[[], float], *, pause: Callable[[float], object] = time.sleep
    ) -> None:
        self._database = database
        self._clock = clock
        self._pause = pause

    def heartbeat(self, process: str, version: str | None) -> None:
        """Take or renew the process's lease."""
        with self._database.writing() as connection:
            connection.execute(BEAT, (process, version, self._clock()))

    def leave(self, process: str) -> None:
        """Give the lease back."""
        with self._database.writing() as connection:
            connection.execute("DELETE FROM leases WHERE process = ?", (process,))

    def leases(self, *, alive_since: float) -> tuple[Lease, ...]:
        """The leases with a heartbeat at or after `alive_since`, by process."""
        sql = "SELECT process, version, beat_at FROM leases WHERE beat_at >= ? ORDER BY process"
        return tuple(Lease(*row) for row in self._database.rows(sql, (alive_since,)))

    def begin(self, version: str, *, deadline: float) -> Rollout:
        """Begin a rollout, ending one that is past its deadline. Raises RolloutUnderWay."""
        now = self._clock()
        with self._database.writing() as connection:
            if row := connection.execute(UNDER_WAY, (now,)).fetchone():
                raise RolloutUnderWay(row[1], remaining_s=row[2] - now)
            connection.execute("UPDATE rollouts SET outcome = ? WHERE outcome IS NULL", (Outcome.EXPIRED,))
            sql = "INSERT INTO rollouts (version, deadline) VALUES (?, ?) RETURNING id"
            ((rollout_id,),) = connection.execute(sql, (version, deadline)).fetchall()
        return Rollout(rollout_id, version, deadline)

    def current(self) -> Rollout | None:
        """The rollout under way, None where there is none or it is past its deadline."""
        row = self._database.row(UNDER_WAY, (self._clock(),))
        return Rollout(*row) if row else None

    def vote(self, rollout: int, vote: Vote) -> None:
        """Answer for one process; its later answer replaces its earlier one."""
        with self._database.writing() as connection:
            connection.execute(VOTE, (rollout, vote.process, vote.ok, vote.detail))

    def votes(self, rollout: int) -> tuple[Vote, ...]:
        """The answers so far, by process."""
        sql = "SELECT process, ok, detail FROM votes WHERE rollout = ? ORDER BY process"
        return tuple(Vote(process, bool(ok), detail) for process, ok, detail in self._database.rows(sql, (rollout,)))

    def finish(self, rollout: int, outcome: Outcome) -> None:
        """End the rollout."""
        with self._database.writing() as connection:
            connection.execute("UPDATE rollouts SET outcome = ? WHERE id = ?", (outcome, rollout))

    def wait(self, timeout_s: float) -> None:
        """Wait so long: a file tells nobody that it has changed."""
        self._pause(timeout_s)
