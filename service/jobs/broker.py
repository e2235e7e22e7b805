"""The queue of messages: huey, with messages that are JSON and name a job. What the job is stands in the job store.

A message only wakes a worker. One that is lost costs the time until a worker looks at the store again, one that comes
twice finds its job taken or ended, and one that none of ours wrote is dropped with a line in the log.
"""

import logging
import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, cast

import msgspec
from huey.api import Huey  # type: ignore[import-untyped]  # ships no annotations, as all of huey
from huey.consumer import Consumer  # type: ignore[import-untyped]
from huey.exceptions import HueyException  # type: ignore[import-untyped]
from huey.registry import Message  # type: ignore[import-untyped]
from huey.serializer import Serializer  # type: ignore[import-untyped]
from huey.storage import BaseStorage, SqliteStorage  # type: ignore[import-untyped]

from service.errors import StoreUnavailable

NAME = "appshelf"
WORK = f"{__name__}.work"
"""The one task that a message names a job for; the other is the schedule's, whose time has come."""

LONGEST_NAP_S = 1.0
AWAY = (sqlite3.Error, StoreUnavailable)
"""What a queue that cannot be reached raises."""

MALFORMED = (msgspec.MsgspecError, HueyException, ValueError, TypeError)

log = logging.getLogger(__name__)


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A message as it is written."""

    id: str
    task: str
    job: str | None = None


class JsonMessages(Serializer):  # type: ignore[misc]  # huey's classes are untyped
    """Envelopes instead of huey's pickles: whoever writes to the queue can name a job and do nothing else."""

    def _serialize(self, data: Message) -> bytes:
        return msgspec.json.encode(Envelope(data.id, data.name, *data.args))

    def _deserialize(self, data: bytes) -> Message:
        envelope = msgspec.json.decode(data, type=Envelope)
        if (envelope.task == WORK) != (envelope.job is not None):
            raise ValueError(f"the task {envelope.task!r} came {'without' if envelope.task == WORK else 'with'} a job")
        return Message(envelope.id, envelope.task, args=() if envelope.job is None else (envelope.job,))


class JsonHuey(Huey):  # type: ignore[misc]
    """A huey of our messages alone; nothing else is kept of a task: no result, no retry and no revocation."""

    def dequeue(self) -> Any:  # noqa: ANN401  # a task of huey's
        """The next message, None where there is none or it is none of ours, which is then gone."""
        data = self.storage.dequeue()
        try:
            return None if data is None else self.deserialize_task(data)
        except MALFORMED as error:
            log.warning("a message that is none of ours was dropped from the queue: %s", error)
            return None

    def is_revoked(self, *_: object) -> bool:
        """Never: a job is cancelled in the job store."""
        return False


class Quiet(Consumer):  # type: ignore[misc]
    """A consumer in a process that handles its signals itself."""

    def _set_signal_handlers(self) -> None:
        pass


@dataclass(frozen=True)
class Duties:
    """What a process does about messages. is_due: whether the schedule names this minute (UTC)."""

    work: Callable[[str], None]
    due: Callable[[], None]
    is_due: Callable[[datetime], bool]


IDLE = Duties(work=lambda _: None, due=lambda: None, is_due=lambda _: False)


class Broker:
    """Messages over one storage of huey's."""

    def __init__(self, storage: BaseStorage) -> None:
        self._duties = IDLE
        self._huey = JsonHuey(NAME, results=False, serializer=JsonMessages(), storage_class=lambda *_, **__: storage)
        self._put = self._huey.task(name="work")(self._work)
        self._huey.periodic_task(self._is_due, name="due")(self._due)

    def wake(self, job_id: str) -> None:
        """Put a message for this job into the queue. Raises what the storage raises, one of AWAY."""
        self._put(job_id)

    def consumer(self, duties: Duties) -> Quiet:
        """One thread that takes the messages, and huey's scheduler; not yet started."""
        self._duties = duties
        return Quiet(self._huey, workers=1, max_delay=LONGEST_NAP_S)

    def drain(self) -> None:
        """Take the messages without doing what they ask."""
        while self._huey.storage.dequeue() is not None:
            pass

    def _work(self, job_id: str) -> None:
        self._duties.work(job_id)

    def _due(self) -> None:
        self._duties.due()

    def _is_due(self, minute: datetime) -> bool:
        return self._duties.is_due(minute)


def sqlite_broker(file: Path) -> Broker:
    """The queue in a file. Raises StoreUnavailable where it cannot be used."""
    try:
        return Broker(SqliteStorage(NAME, filename=str(file)))
    except sqlite3.Error as error:
        raise StoreUnavailable(str(file), str(error)) from error


class LinkStorage(BaseStorage):  # type: ignore[misc]
    """A list in Redis, reached as the stores reach it; each command names one key, so a cluster will do.

    Huey's own storage wants a client of one server, and what it keeps beside the list is of no use here.
    """

    def __init__(self, ask: Callable[..., Any], key: str) -> None:
        super().__init__(NAME)
        self._ask = ask
        self._key = key

    def enqueue(self, data: bytes, priority: float | None = None) -> None:
        """Put a message at the end."""
        self._ask("LPUSH", self._key, data)

    def dequeue(self) -> bytes | None:
        """Take the first message, None where there is none."""
        return cast("bytes | None", self._ask("RPOP", self._key))

    def queue_size(self) -> int:
        """How many messages there are."""
        return int(self._ask("LLEN", self._key))

    def read_schedule(self, _now: datetime) -> list[bytes]:
        """None: a message is for now."""
        return []

    def delete_data(self, _key: str) -> bool:
        """False: nothing is kept of a message."""
        return False


def redis_broker(ask: Callable[..., Any]) -> Broker:
    """The queue in Redis. ask: the answer to a command, raising StoreUnavailable where Redis is away."""
    return Broker(LinkStorage(ask, f"{NAME}:queue"))
