"""uvicorn servers that are handed their connections, each in a thread, behind a doorman."""

import asyncio
import http.client
import json
import logging
import os
import select
import socket
import time
import weakref
from collections.abc import Iterator, MutableMapping
from contextlib import ExitStack, suppress
from threading import Event, Thread
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp
from uvicorn import Config

from service.doorman import Doorman
from service.guest import CLIENT_WITHIN_S, MOST_HEAD, Guest
from service.place import Place
from service.readiness import SERVES
from service.reception import Reception
from tests.service.clock import Clock
from tests.service.wire import soon

PATIENCE_S = 20
WORK_S = 0.01
MUCH = 2**25  # more than the kernel takes for a client that does not read
A_WHILE_S, TOO_LONG_S = CLIENT_WITHIN_S * 0.9, CLIENT_WITHIN_S * 0.2


class Worker:
    """A server in a thread. /held answers when `release` is set, /long after work, /whole when all of the body is here.

    Anything else does at once, and the answer is the client's port; on /large with much after it. given: an application
    to serve instead.
    """

    def __init__(self, given: ASGIApp | None = None) -> None:
        self.clock = Clock()
        self.release, self.arrived = Event(), Event()
        self._waiting = list[asyncio.Event]()
        application, lifespan = given or self.application, "on" if given else "off"
        config = Config(
            application,
            interface="asgi3",
            http=Guest,
            ws="none",
            lifespan=lifespan,  # type: ignore[arg-type]  # one of its two words
            log_config=None,
        )
        config.timeout_keep_alive = 30
        self.server = Reception(config, clock=self.clock)
        ours, theirs = socket.socketpair()
        self._door, self._alive = theirs.dup(), os.pipe()
        self.place = Place((ours, theirs), self._alive[0])
        self.thread = Thread(target=self._run)
        self.thread.start()

    async def application(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:  # noqa: ANN401
        while scope["path"] == "/whole" and (await receive())["more_body"]:
            pass
        if scope["path"] == "/held":
            self.arrived.set()
            while not self.release.is_set():
                await asyncio.sleep(0.01)
        if scope["path"] == "/long":
            await self._turn()
        body = str(scope["client"][1]).encode() + bytes(MUCH if scope["path"] == "/large" else 0)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        if scope["path"] == "/broken":
            raise RuntimeError("the second half is missing")
        await send({"type": "http.response.body", "body": body})

    async def _turn(self) -> None:
        """Wait until the loop's thread has worked for all who wait by then, as rankings do."""
        loop, mine = asyncio.get_running_loop(), asyncio.Event()
        if not self._waiting:
            loop.call_soon(self._work)
        self._waiting.append(mine)
        await mine.wait()

    def _work(self) -> None:
        time.sleep(WORK_S)
        for one in self._waiting:
            one.set()
        self._waiting.clear()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                self.loop = loop.get_loop()
                loop.run(self.server.serve(sockets=[self._door]))
        finally:
            os.close(self._alive[1])

    def waits(self, seconds: float) -> None:
        """Let time go by, between two looks at who is waited for."""
        self._look()
        self.clock.advance(seconds)
        self._look()

    def _look(self) -> None:
        looked = Event()
        self.loop.call_soon_threadsafe(self.server.look_round)
        self.loop.call_soon_threadsafe(looked.set)
        assert looked.wait(PATIENCE_S)

    def leave(self) -> None:
        self.server.should_exit = True

    def end(self) -> None:
        self.release.set()
        self.leave()
        self.thread.join(PATIENCE_S)


class House:
    """A doorman and the servers behind it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        listener = socket.socket()
        listener.bind(("127.0.0.1", 0))
        self.port = listener.getsockname()[1]
        self.doorman = Doorman(listener, room=100, clock=time.monotonic)
        self.doorman.start()
        stack.callback(self.doorman.close)

    def worker(self, given: ASGIApp | None = None) -> Worker:
        worker = Worker(given)
        self._stack.callback(worker.end)
        self.doorman.seat(worker.place)
        assert soon(lambda: worker.place.open)
        return worker

    def client(self) -> http.client.HTTPConnection:
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        client.connect()
        self._stack.callback(client.close)
        return client


@pytest.fixture
def house() -> Iterator[House]:
    with ExitStack() as stack:
        yield House(stack)


def ask(client: http.client.HTTPConnection, path: str = "/") -> int:
    """The port that the server sees this client at."""
    client.request("GET", path)
    return int(client.getresponse().read())


def answered(client: http.client.HTTPConnection) -> int:
    """The same, to what was sent by hand."""
    assert client.sock is not None
    answer = http.client.HTTPResponse(client.sock)
    answer.begin()
    return int(answer.read())


def send(client: http.client.HTTPConnection, data: bytes) -> None:
    assert client.sock is not None
    client.sock.sendall(data)


def own_port(client: http.client.HTTPConnection) -> int:
    """The port that this client has; fails where the connection was closed."""
    assert client.sock is not None
    return int(client.sock.getsockname()[1])


def guests(worker: Worker) -> list[Guest]:
    return [one for one in worker.server.server_state.connections if isinstance(one, Guest)]


def counts(*workers: Worker) -> list[int]:
    return [len(worker.server.server_state.connections) for worker in workers]


def test_the_clients_address_is_the_clients(house: House) -> None:
    house.worker()
    client = house.client()
    assert ask(client) == own_port(client)


class Written:
    """A transport, and what was written to it, call by call."""

    def __init__(self, transport: Any) -> None:  # noqa: ANN401  # whatever the loop gives
        self.calls: list[bytes] = []
        self._transport = transport

    def write(self, data: bytes) -> None:
        self.calls.append(data)
        self._transport.write(data)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # as the transport has it
        return getattr(self._transport, name)


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[Written]:
    """What each connection that is made from here on is written."""
    made, connected = list[Written](), Guest.connection_made

    def connection_made(self: Guest, transport: Any) -> None:  # noqa: ANN401  # as the method it stands before
        made.append(Written(transport))
        connected(self, made[-1])  # type: ignore[arg-type]  # it has all that a transport has

    monkeypatch.setattr(Guest, "connection_made", connection_made)
    return made


def test_an_answer_is_written_in_one_call(house: House, written: list[Written]) -> None:
    house.worker()
    client = house.client()
    assert ask(client) == ask(client) == own_port(client)
    assert [call.count(b"HTTP/1.1 200 OK") for call in written[0].calls] == [1, 1]
    assert all(call.endswith(str(own_port(client)).encode()) for call in written[0].calls)


def test_an_answered_request_goes_without_a_search_for_cycles(house: House, no_collection: None) -> None:
    worker, client = house.worker(), house.client()
    answered_requests = []
    for _ in range(3):
        assert ask(client) == own_port(client)
        answered_requests += [weakref.ref(guest.cycle) for guest in guests(worker)]
    assert soon(lambda: [one() is None for one in answered_requests] == [True, True, False])


def test_an_answer_without_a_body_is_written_at_once(house: House) -> None:
    house.worker()
    client = house.client()
    for _ in range(2):
        client.request("HEAD", "/")
        response = client.getresponse()
        assert (response.status, response.read()) == (200, b"")
    assert ask(client) == own_port(client)


def test_of_an_answer_that_breaks_off_its_client_gets_what_there_was(house: House) -> None:
    house.worker()
    client = house.client()
    client.request("GET", "/broken")
    response = client.getresponse()
    assert response.status == 200
    with pytest.raises(http.client.IncompleteRead):
        response.read()


def test_connections_are_spread_and_their_end_is_told(house: House) -> None:
    one, other = house.worker(), house.worker()
    clients = [house.client() for _ in range(8)]
    assert [ask(client) for client in clients] == [own_port(client) for client in clients]
    assert counts(one, other) == [4, 4]
    for client in clients:
        client.close()
    assert soon(lambda: one.place.count == other.place.count == 0)


def test_a_worker_that_comes_later_gets_its_share_and_no_client_notices(house: House) -> None:
    one = house.worker()
    clients = [house.client() for _ in range(8)]
    ports = [own_port(client) for client in clients]
    assert [ask(client) for client in clients] == ports
    other = house.worker()
    assert soon(lambda: [ask(client) for client in clients] == ports and counts(one, other) == [4, 4])
    assert [own_port(client) for client in clients] == ports
    assert (one.place.count, other.place.count) == (4, 4)


def asking_on(client: http.client.HTTPConnection, enough: Event, seen: set[int]) -> None:
    while not enough.is_set():
        seen.add(ask(client, "/long"))


def test_connections_whose_clients_never_pause_are_evened_out_too(house: House) -> None:
    one, enough, seen = house.worker(), Event(), set[int]()
    clients = [house.client() for _ in range(8)]
    ports = {own_port(client) for client in clients}
    asking = [Thread(target=asking_on, args=(client, enough, seen)) for client in clients]
    for thread in asking:
        thread.start()
    try:
        assert soon(lambda: seen == ports)
        other = house.worker()
        assert soon(lambda: counts(one, other) == [4, 4])
    finally:
        enough.set()
        for thread in asking:
            thread.join(PATIENCE_S)
    assert {own_port(client) for client in clients} == seen == ports


def test_connections_that_never_asked_are_evened_out_too(house: House) -> None:
    one = house.worker()
    clients = [house.client() for _ in range(4)]
    assert soon(lambda: counts(one) == [4])
    other = house.worker()
    assert soon(lambda: counts(one, other) == [2, 2])
    assert [ask(client) for client in clients] == [own_port(client) for client in clients]


def test_a_connection_in_the_middle_of_a_request_stays_where_it_is(house: House) -> None:
    one = house.worker()
    client = house.client()
    assert client.sock is not None
    client.sock.sendall(b"GET / HTTP/1.1\r\nhost: ")
    assert soon(lambda: any(guest.headers is not None for guest in guests(one)))
    other = house.worker()
    others = [house.client() for _ in range(2)]
    assert [ask(client) for client in others] == [own_port(client) for client in others]
    client.sock.sendall(b"here\r\n\r\n")
    answer = http.client.HTTPResponse(client.sock)
    answer.begin()
    assert int(answer.read()) == own_port(client)
    assert sum(counts(one, other)) == 3


@pytest.mark.parametrize(
    ("begun", "rest"),
    [
        (b"GET / HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nhost: ", b"here\r\n\r\n"),
        (b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\n", b"bodyGET / HTTP/1.1\r\n\r\n"),
    ],
    ids=["a beginning of the next request", "a body answered before it came"],
)
def test_a_connection_stays_where_half_of_something_was_read_though_its_last_answer_is_out(
    house: House, begun: bytes, rest: bytes
) -> None:
    one = house.worker()
    halves, others = ([house.client() for _ in range(6)] for _ in range(2))
    for client in halves:
        send(client, begun)
        assert answered(client) == own_port(client)
    assert [ask(client) for client in others] == [own_port(client) for client in others]
    other = house.worker()
    assert soon(lambda: counts(one, other) == [6, 6])
    for client in halves:
        send(client, rest)
        assert answered(client) == own_port(client)


def test_after_the_rest_of_a_body_that_was_answered_before_it_came_the_next_request_is_waited_for_as_usual(
    house: House,
) -> None:
    one, client, other = house.worker(), house.client(), house.client()
    send(client, b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbo")
    assert answered(client) == own_port(client)
    send(client, b"dy")
    assert ask(other) == own_port(other)  # by now the rest is read too
    assert [guest.idle for guest in guests(one) if guest.client and guest.client[1] == own_port(client)] == [True]


def test_a_client_that_waits_for_leave_to_send_its_body_gets_it(house: House) -> None:
    house.worker()
    client = house.client()
    send(client, b"POST /whole HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 4\r\n\r\n")
    assert client.sock is not None
    assert client.sock.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    send(client, b"body")
    assert answered(client) == own_port(client)


def test_a_client_that_has_said_all_and_still_reads_is_answered(house: House) -> None:
    worker, client = house.worker(), house.client()
    client.request("GET", "/held")
    assert worker.arrived.wait(PATIENCE_S)
    assert client.sock is not None
    client.sock.shutdown(socket.SHUT_WR)
    other = house.client()
    assert ask(other) == own_port(other)  # by now the end of the first is known too
    worker.release.set()
    port = own_port(client)
    answer = client.getresponse()
    assert (int(answer.read()), answer.headers["connection"]) == (port, "close")


def test_of_requests_sent_before_an_answer_is_read_a_bounded_number_is_held(house: House) -> None:
    worker, client = house.worker(), house.client()
    send(client, b"GET /held HTTP/1.1\r\n\r\n" + b"GET /whole HTTP/1.1\r\n\r\n")
    assert worker.arrived.wait(PATIENCE_S)
    assert soon(lambda: [len(guest.pipeline) for guest in guests(worker)] == [1])
    (guest,) = guests(worker)
    guest.flow.resume_reading()  # as uvicorn does when a request is begun
    assert guest.flow.read_paused
    worker.release.set()
    received = b""
    while received.count(str(own_port(client)).encode()) < 2:
        assert client.sock is not None
        received += client.sock.recv(1000)
    assert ask(client) == own_port(client)


def test_an_answer_to_a_connection_that_is_over_is_dropped_without_an_error(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    worker, client = house.worker(), house.client()
    send(client, b"GET /held HTTP/1.1\r\n\r\nGET /whole HTTP/1.1\r\n\r\nno HTTP\r\n\r\n")
    assert worker.arrived.wait(PATIENCE_S)
    assert soon(lambda: counts(worker) == [0])
    worker.release.set()
    assert soon(lambda: not worker.server.server_state.tasks)
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_what_is_not_http_is_answered_with_a_problem(house: House) -> None:
    house.worker()
    client = house.client()
    send(client, b"hello\r\n\r\n")
    assert client.sock is not None
    answer = http.client.HTTPResponse(client.sock)
    answer.begin()
    found = json.loads(answer.read())
    assert (answer.status, answer.headers["content-type"]) == (400, "application/problem+json")
    assert (found["status"], found["request_id"]) == (400, answer.headers["x-request-id"])
    assert found["detail"]
    assert client.sock.recv(1) == b""


def test_a_worker_that_leaves_gives_its_connections_to_the_others_and_no_client_notices(house: House) -> None:
    leaving, staying = house.worker(), house.worker()
    clients = [house.client() for _ in range(6)]
    ports = [ask(client) for client in clients]
    leaving.leave()
    leaving.thread.join(PATIENCE_S)
    assert soon(lambda: counts(staying) == [6])
    assert [ask(client) for client in clients] == ports
    assert [own_port(client) for client in clients] == ports


def test_a_request_under_way_is_answered_by_the_worker_that_leaves(house: House) -> None:
    leaving = house.worker()
    client = house.client()
    client.request("GET", "/held")
    assert leaving.arrived.wait(PATIENCE_S)
    staying = house.worker()
    leaving.leave()
    assert soon(lambda: not leaving.place.open)
    leaving.release.set()
    assert int(client.getresponse().read()) == own_port(client)
    leaving.thread.join(PATIENCE_S)
    assert soon(lambda: counts(staying) == [1])
    assert ask(client) == own_port(client)


def test_the_last_workers_connections_wait_for_the_next(house: House) -> None:
    leaving = house.worker()
    client = house.client()
    port = ask(client)
    leaving.leave()
    leaving.thread.join(PATIENCE_S)
    client.request("GET", "/")
    house.worker()
    assert int(client.getresponse().read()) == port


def test_when_the_doorman_has_gone_a_worker_that_leaves_closes_its_connections(house: House) -> None:
    worker = house.worker()
    client = house.client()
    ask(client)
    house.doorman.close()
    assert ask(client) == own_port(client)
    worker.leave()
    worker.thread.join(PATIENCE_S)
    assert not worker.thread.is_alive()
    assert client.sock is not None
    assert client.sock.recv(1) == b""


def test_a_doorman_that_goes_with_words_unheard_is_as_good_as_one_that_says_goodbye(
    caplog: pytest.LogCaptureFixture,
) -> None:
    worker = Worker()
    try:
        assert soon(lambda: worker.server.started)
        assert soon(lambda: bool(select.select([worker.place.ours], [], [], 0)[0]))
        worker.place.close()
    finally:
        worker.end()
    assert not worker.thread.is_alive()
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_worker_told_to_end_before_its_application_is_there_does_not_start_it() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        server = Reception(Config(lambda: None, lifespan="on", log_config=None), clock=Clock())
        server.should_exit = True
        asyncio.run(server.serve(sockets=[theirs]))
        assert not server.started
        ours.setblocking(False)
        with pytest.raises(BlockingIOError):
            ours.recv(1)


def test_a_connection_given_on_and_then_unused_is_closed_as_after_an_answer(house: House) -> None:
    leaving, staying = house.worker(), house.worker()
    staying.server.config.timeout_keep_alive = 0
    client = house.client()
    other = house.client()
    ask(client)
    leaving.leave()
    assert client.sock is not None
    assert client.sock.recv(1) == b""
    assert ask(other) == own_port(other)


def test_connections_leave_a_worker_that_has_nothing_to_answer_with_and_come_back_when_it_has(house: House) -> None:
    one, other = house.worker(), house.worker()
    clients = [house.client() for _ in range(4)]
    assert soon(lambda: counts(one, other) == [2, 2])
    loaded = Event()
    other.server.lifespan.state[SERVES] = loaded.is_set
    assert soon(lambda: counts(one, other) == [4, 0])
    assert [ask(client) for client in clients] == [own_port(client) for client in clients]
    loaded.set()
    assert soon(lambda: counts(one, other) == [2, 2])


REQUEST, HALF_A_HEAD = b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nhost: "
HALF_A_BODY = b"POST / HTTP/1.1\r\ncontent-length: 4\r\n\r\nbo"


def owe(worker: Worker) -> bool:
    """Whether the one client that there is has come to be waited for."""
    return soon(lambda: [guest.owed is not None for guest in guests(worker)] == [True])


def begin(worker: Worker, client: http.client.HTTPConnection) -> None:
    """Send half of a head, and wait until it is there."""
    (guest,) = guests(worker)
    former = guest.scope
    send(client, HALF_A_HEAD)
    assert soon(lambda: guest.scope is not former and guest.owed is not None)


@pytest.mark.parametrize(
    ("asked", "more"),
    [(b"", b""), (b"", b"\r\n"), (REQUEST, b"\r\n"), (HALF_A_BODY, b"d")],
    ids=["nothing", "an empty line", "an empty line after a request", "some of a body that was answered before it"],
)
def test_a_client_that_sends_no_more_than_this_is_given_up(house: House, asked: bytes, more: bytes) -> None:
    worker, client = house.worker(), house.client()
    if asked:
        send(client, asked)
        assert answered(client) == own_port(client)
    send(client, more)
    assert owe(worker)
    worker.waits(A_WHILE_S)
    assert counts(worker) == [1]
    worker.waits(TOO_LONG_S)
    assert client.sock is not None
    assert client.sock.recv(1) == b""


@pytest.mark.parametrize("asked", [b"", REQUEST, HALF_A_BODY + b"dy"], ids=["first", "next", "after a refused body"])
def test_the_head_of_a_request_that_comes_drop_by_drop_is_answered_with_what_is_wrong(
    house: House, asked: bytes
) -> None:
    worker, client = house.worker(), house.client()
    assert owe(worker)
    if asked:
        send(client, asked)
        assert answered(client) == own_port(client)
    begin(worker, client)
    worker.waits(A_WHILE_S)
    send(client, b"h")
    worker.waits(TOO_LONG_S)
    assert client.sock is not None
    answer = http.client.HTTPResponse(client.sock)
    answer.begin()
    found = json.loads(answer.read())
    assert (answer.status, found["status"], found["title"]) == (408, 408, "Request timeout")
    assert "within 15 s" in found["detail"]
    assert found["request_id"] == answer.headers["x-request-id"]
    assert client.sock.recv(1) == b""


def test_a_client_that_goes_on_in_time_is_waited_for_anew(house: House) -> None:
    worker, client = house.worker(), house.client()
    assert owe(worker)
    for _ in range(3):
        worker.waits(A_WHILE_S)
        begin(worker, client)
        worker.waits(A_WHILE_S)
        send(client, b"here\r\n\r\n")
        assert answered(client) == own_port(client)
        send(client, b"\r\n")
        assert owe(worker)


def test_who_waits_for_an_answer_or_for_a_next_question_owes_nothing(house: House) -> None:
    worker, client = house.worker(), house.client()
    client.request("GET", "/held")
    assert worker.arrived.wait(PATIENCE_S)
    worker.waits(TOO_LONG_S + A_WHILE_S)
    worker.release.set()
    assert int(client.getresponse().read()) == own_port(client)
    worker.waits(TOO_LONG_S + A_WHILE_S)
    assert ask(client) == own_port(client)


def unread(worker: Worker) -> list[int]:
    return [guest.transport.get_write_buffer_size() for guest in guests(worker)]


def test_a_client_that_reads_nothing_of_its_answer_is_given_up_and_one_that_reads_on_is_not(house: House) -> None:
    worker, client = house.worker(), house.client()
    client.request("GET", "/large")
    response = client.getresponse()
    for _ in range(2):
        response.read(MUCH // 4)
        assert soon(lambda: unread(worker) == unread(worker) != [0])
        worker.waits(A_WHILE_S)
    assert counts(worker) == [1]
    worker.waits(TOO_LONG_S + A_WHILE_S)
    assert soon(lambda: counts(worker) == [0])


def test_clients_are_looked_at_without_being_asked_to(house: House) -> None:
    worker, client = house.worker(), house.client()
    assert owe(worker)

    def is_given_up() -> bool:
        worker.clock.advance(TOO_LONG_S)
        return counts(worker) == [0]

    assert soon(is_given_up)
    assert own_port(client)


@pytest.mark.parametrize("name", ["Upgrade", "upgrade", "UPGRADE"])
def test_an_offer_of_another_protocol_is_passed_over_and_the_body_is_read(house: House, name: str) -> None:
    async def said(request: Request) -> Response:
        return Response(await request.body())

    house.worker(Starlette(routes=[Route("/said", said, methods=["POST"])]))
    client, offer = house.client(), {"Connection": "Upgrade, HTTP2-Settings", name: "h2c", "HTTP2-Settings": "AAMAAA"}
    for body in (b"at once", iter([b"piece ", b"by piece"])):
        client.request("POST", "/said", body=body, headers=offer, encode_chunked=not isinstance(body, bytes))
        assert client.getresponse().read() in (b"at once", b"piece by piece")


ENDLESS = {
    "a path": b"GET /",
    "a header": b"GET / HTTP/1.1\r\nHost: a\r\nx: ",
    "headers": b"GET / HTTP/1.1\r\nHost: a\r\nx: 1\r\n",
}


@pytest.mark.parametrize("begun", ENDLESS.values(), ids=ENDLESS)
def test_a_head_without_an_end_is_refused_while_it_arrives(house: House, begun: bytes) -> None:
    worker, more = house.worker(), b"y: 2\r\n" * 1000 if begun.endswith(b"\n") else b"a" * 6000
    with socket.create_connection(("127.0.0.1", house.port), PATIENCE_S) as client:
        client.sendall(begun)
        assert soon(lambda: [guest._in_head for guest in guests(worker)] == [True])
        for _ in range(MOST_HEAD // 6000 + 1):  # of which the last is over the limit, so that all of it is read
            client.sendall(more)
        response = http.client.HTTPResponse(client)
        response.begin()
        problem = json.loads(response.read())
    assert response.status == problem["status"] == 431
    assert response.getheader("content-type") == "application/problem+json"
    assert soon(lambda: counts(worker) == [0])


def test_a_trailer_without_an_end_ends_the_connection(house: House) -> None:
    worker = house.worker()
    with socket.create_connection(("127.0.0.1", house.port), PATIENCE_S) as client:
        client.sendall(b"POST /whole HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nx: ")
        with suppress(ConnectionError):
            for _ in range(100):
                client.sendall(b"a" * 6000)
        assert soon(lambda: counts(worker) == [0])


def test_a_long_body_may_come_in_many_pieces(house: House) -> None:
    house.worker()
    client = house.client()
    client.request("POST", "/whole", body=(b"a" * 6000 for _ in range(100)), encode_chunked=True)
    assert client.getresponse().status == 200
