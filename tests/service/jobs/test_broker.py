"""The queue of messages: they are JSON, name a job, and whatever else is in the queue is never executed."""

import json
import logging
import pickle
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from threading import Event

import pytest

from service.errors import StoreUnavailable
from service.jobs.broker import WORK, Broker, Duties, Quiet, redis_broker, sqlite_broker
from service.store.redis_client import RedisLink
from tests.redis_server import redis_server
from tests.service.wire import soon

TAMPERED = [
    b"no JSON at all",
    b"",
    pickle.dumps({"id": "x", "task": WORK, "job": "j"}),
    b"[]",
    b'{"id": "x", "task": "os.system", "job": "true"}',
    b'{"id": "x", "task": "os.system"}',
    json.dumps({"id": "x", "task": WORK}).encode(),
    json.dumps({"id": "x", "task": WORK, "job": 5}).encode(),
    json.dumps({"id": "x", "task": WORK, "job": "j", "on_complete": {"task": WORK}}).encode(),
    json.dumps({"id": "x", "task": WORK.replace("work", "due"), "job": "j"}).encode(),
]


@dataclass(frozen=True)
class Queue:
    """A broker, and a hand in its queue."""

    broker: Broker
    put: Callable[[bytes], object]


@pytest.fixture
def embedded(tmp_path: Path) -> Queue:
    file = tmp_path / "queue.sqlite"
    broker = sqlite_broker(file)

    def put(message: bytes) -> None:
        with closing(sqlite3.connect(file)) as connection, connection:
            connection.execute("INSERT INTO task (queue, data, priority) VALUES ('appshelf', ?, 0)", (message,))

    return Queue(broker, put)


@pytest.fixture(params=["sqlite", "redis"])
def queue(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Queue]:
    if request.param == "sqlite":
        yield request.getfixturevalue("embedded")
        return
    with redis_server(tmp_path / "redis") as server:
        link = RedisLink(server.url, timeout_s=5.0)
        yield Queue(redis_broker(link.ask), lambda message: link.ask("LPUSH", "appshelf:queue", message))
        link.close()


def done_by(queue: Queue, *, until: int) -> list[str]:
    """The jobs that a consumer was asked to work at, once there are so many."""
    worked: list[str] = []
    consumer = queue.broker.consumer(Duties(worked.append, due=lambda: None, is_due=lambda _: False))
    consumer.start()
    soon(lambda: len(worked) >= until)
    ended(consumer)
    return worked


def ended(consumer: Quiet) -> None:
    consumer.stop(graceful=True)


def test_each_job_that_was_woken_is_worked_at_in_order(queue: Queue) -> None:
    for job in ("j1", "j2"):
        queue.broker.wake(job)
    assert done_by(queue, until=2) == ["j1", "j2"]


def test_a_message_is_json_that_names_the_job_and_nothing_of_it(tmp_path: Path) -> None:
    sqlite_broker(tmp_path / "queue.sqlite").wake("j1")
    with closing(sqlite3.connect(tmp_path / "queue.sqlite")) as connection:
        ((data,),) = connection.execute("SELECT data FROM task").fetchall()
    message = json.loads(data)
    assert message.keys() == {"id", "task", "job"}
    assert (message["task"], message["job"]) == (WORK, "j1")


def test_what_nobody_here_wrote_is_dropped_with_a_line_and_the_rest_is_done(
    queue: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    for message in TAMPERED:
        queue.put(message)
    queue.broker.wake("j1")
    with caplog.at_level(logging.WARNING, logger="service.jobs.broker"):
        assert done_by(queue, until=1) == ["j1"]
    assert len([line for line in caplog.messages if "none of ours was dropped" in line]) == len(TAMPERED)
    assert "Traceback" not in caplog.text


def test_draining_leaves_no_message_and_does_nothing(queue: Queue) -> None:
    for message in TAMPERED:
        queue.put(message)
    queue.broker.wake("j1")
    queue.broker.drain()
    queue.broker.wake("j2")
    assert done_by(queue, until=1) == ["j2"]


def test_the_schedule_is_asked_each_minute_and_seen_to_where_it_is_due(embedded: Queue) -> None:
    asked, seen = list[datetime](), Event()

    def is_due(minute: datetime) -> bool:
        asked.append(minute)
        return True

    consumer = embedded.broker.consumer(Duties(lambda _: None, due=seen.set, is_due=is_due))
    consumer.start()
    assert soon(seen.is_set)
    ended(consumer)
    assert asked


def test_a_job_that_fails_in_the_thread_does_not_stop_the_next(
    embedded: Queue, caplog: pytest.LogCaptureFixture
) -> None:
    worked = []

    def work(job: str) -> None:
        worked.append(job)
        if job == "j1":
            raise RuntimeError("nobody foresaw it")

    for job in ("j1", "j2"):
        embedded.broker.wake(job)
    consumer = embedded.broker.consumer(Duties(work, due=lambda: None, is_due=lambda _: False))
    consumer.start()
    soon(lambda: len(worked) == 2)
    ended(consumer)
    assert worked == ["j1", "j2"]
    assert "nobody foresaw it" in caplog.text


def test_a_queue_file_that_is_none_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "queue.sqlite").write_bytes(b"a text of some length, which is not a database at all" * 100)
    with pytest.raises(StoreUnavailable, match=r"queue\.sqlite"):
        sqlite_broker(tmp_path / "queue.sqlite")
