"""Connections handed to workers over real sockets; the workers are played by the tests."""

import os
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from service.doorman import Doorman
from service.place import BACK, CLOSED, EMPTY, FRESH, GIVE, KNOCK, LEAVING, READY, RETURNED, STOCKED, Place
from tests.service.wire import soon

ROOM = 100


class Played:
    """A worker: its end of the pair, what it has been told, and the connections that it has taken."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        self.door = theirs.dup()
        alive, self._alive = os.pipe()
        self.place = Place((ours, theirs), alive)
        self.words = b""
        self.taken: list[socket.socket] = []

    def say(self, words: bytes, connection: socket.socket | None = None) -> None:
        socket.send_fds(self.door, [words], [connection.fileno()] if connection else [])

    def take(self) -> int:
        """Take what lies there, and how many connections it has by now."""
        try:
            while True:
                words, given, _, _ = socket.recv_fds(self.door, 64, 4)
                if not words:
                    break
                self.words += words
                self.taken += [socket.socket(fileno=one) for one in given]
        except BlockingIOError:
            pass
        return len(self.taken)

    def die(self) -> None:
        os.close(self._alive)
        self._alive = -1
        self.door.close()

    def tidy(self) -> None:
        if self._alive >= 0:
            self.die()
        for one in self.taken:
            one.close()


class Entrance:
    """A listening socket with a doorman, and those who come through it."""

    def __init__(self, stack: ExitStack, *, host: str = "127.0.0.1", room: int = ROOM) -> None:
        self._stack = stack
        self.listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self.listener.bind((host, 0))
        self.address = self.listener.getsockname()
        self.doorman = Doorman(self.listener, room=room, clock=time.monotonic)
        self.doorman.start()
        stack.callback(self.doorman.close)

    def worker(self, *, ready: bool = True) -> Played:
        """A worker more."""
        one = Played()
        self._stack.callback(one.tidy)
        self.doorman.seat(one.place)
        if ready:
            one.say(READY)
            assert soon(lambda: one.place.open)
        return one

    def empty_worker(self) -> Played:
        """A worker more, which has nothing to answer with."""
        one = self.worker()
        one.say(EMPTY)
        assert soon(lambda: not one.place.stocked)
        return one

    def client(self) -> socket.socket:
        """A connection more."""
        return self._stack.enter_context(socket.create_connection(self.address[:2], timeout=20))

    def clients(self, count: int) -> list[socket.socket]:
        return [self.client() for _ in range(count)]


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


@pytest.fixture
def entrance(stack: ExitStack) -> Entrance:
    return Entrance(stack)


def taken(*workers: Played) -> Callable[[list[int]], bool]:
    """Whether the workers come to have so many connections, each."""
    return lambda counts: soon(lambda: [worker.take() for worker in workers] == counts)


def taken_in_all(*workers: Played) -> Callable[[int], bool]:
    return lambda count: soon(lambda: sum(worker.take() for worker in workers) == count)


def refused(entrance: Entrance) -> bool:
    try:
        entrance.client()
    except ConnectionRefusedError:
        return True
    return False


def test_eight_connections_over_two_workers_are_four_and_four(entrance: Entrance) -> None:
    one, other = entrance.worker(), entrance.worker()
    entrance.clients(8)
    assert taken(one, other)([4, 4])
    assert one.words == other.words == FRESH * 4


def test_seven_over_three_are_as_even_as_can_be(entrance: Entrance) -> None:
    workers = [entrance.worker() for _ in range(3)]
    entrance.clients(7)
    assert soon(lambda: sorted(worker.take() for worker in workers) == [2, 2, 3])


def test_a_connection_handed_on_is_the_clients_own(entrance: Entrance) -> None:
    worker, client = entrance.worker(), entrance.client()
    assert taken(worker)([1])
    assert worker.taken[0].getpeername() == client.getsockname()
    worker.taken[0].sendall(b"hello")
    assert client.recv(5) == b"hello"


def test_connections_come_over_ipv6_too(stack: ExitStack) -> None:
    entrance = Entrance(stack, host="::1")
    worker, client = entrance.worker(), entrance.client()
    assert taken(worker)([1])
    assert worker.taken[0].getpeername() == client.getsockname()


def test_before_the_first_worker_is_ready_connections_are_refused(entrance: Entrance) -> None:
    worker = entrance.worker(ready=False)
    assert refused(entrance)
    worker.say(READY)
    assert soon(lambda: not refused(entrance))


def test_a_worker_is_given_nothing_before_it_is_ready(entrance: Entrance) -> None:
    ready, starting = entrance.worker(), entrance.worker(ready=False)
    entrance.clients(3)
    assert taken(ready, starting)([3, 0])
    starting.say(READY)
    assert soon(lambda: starting.place.open)
    entrance.clients(3)
    assert taken(ready, starting)([3, 3])


def test_a_connection_that_is_over_makes_room_for_the_next(entrance: Entrance) -> None:
    one, other = entrance.worker(), entrance.worker()
    entrance.clients(4)
    assert taken(one, other)([2, 2])
    other.say(CLOSED * 2)
    assert soon(lambda: other.place.count == 0)
    entrance.clients(2)
    assert taken(one, other)([2, 4])


def test_connections_that_come_and_go_are_given_to_one_worker_after_the_other(entrance: Entrance) -> None:
    workers = entrance.worker(), entrance.worker()
    for turn in range(6):
        entrance.client()
        assert taken_in_all(*workers)(turn + 1)
        workers[turn % 2].say(CLOSED)
        assert soon(lambda: workers[0].place.count == workers[1].place.count == 0)
    assert [len(worker.taken) for worker in workers] == [3, 3]


def test_past_its_room_a_worker_is_given_nothing_until_a_connection_is_over(stack: ExitStack) -> None:
    entrance = Entrance(stack, room=2)
    worker = entrance.worker()
    entrance.clients(3)
    assert taken(worker)([2])
    worker.say(CLOSED)
    assert taken(worker)([3])


def test_what_a_worker_had_not_taken_when_it_died_goes_to_another(entrance: Entrance) -> None:
    dying, other = entrance.worker(), entrance.worker()
    clients = entrance.clients(4)
    assert taken(other)([2])
    dying.die()
    assert taken(other)([4])
    assert {one.getpeername() for one in other.taken} == {one.getsockname() for one in clients}


def test_a_worker_whose_end_is_seen_before_its_last_words_is_seen_off_and_others_are_handed_theirs(
    entrance: Entrance, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    selector = entrance.doorman._selector
    select = selector.select

    def ends_first(timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        return sorted(select(timeout), key=lambda event: not isinstance(event[0].fileobj, int))

    monkeypatch.setattr(selector, "select", ends_first)
    dead = Played()
    stack.callback(dead.tidy)
    dead.say(READY)
    dead.die()
    entrance.doorman.seat(dead.place)
    other = entrance.worker()
    entrance.client()
    assert taken(other)([1])
    assert entrance.doorman.alive


def test_with_no_worker_left_connections_wait_for_the_next(entrance: Entrance) -> None:
    dying = entrance.worker()
    entrance.client()
    assert soon(lambda: dying.place.untaken == 1)
    dying.die()
    entrance.client()
    assert taken(entrance.worker())([2])


def test_what_a_leaving_worker_had_not_taken_goes_to_another_and_it_gets_nothing_more(entrance: Entrance) -> None:
    leaving, other = entrance.worker(), entrance.worker()
    entrance.clients(2)
    assert taken(other)([1])
    leaving.say(LEAVING)
    assert taken(other)([2])
    entrance.clients(2)
    assert taken(leaving, other)([0, 4])


def test_a_connection_given_back_goes_to_another_as_one_that_was_in_use(entrance: Entrance) -> None:
    leaving, other = entrance.worker(), entrance.worker(ready=False)
    client = entrance.client()
    assert taken(leaving)([1])
    other.say(READY)
    leaving.say(LEAVING)
    leaving.say(BACK, leaving.taken[0])
    leaving.die()
    assert taken(other)([1])
    assert other.words == RETURNED
    assert other.taken[0].getpeername() == client.getsockname()
    assert soon(lambda: other.place.count == 1)


def test_a_stuck_worker_loses_what_it_has_not_taken_and_gets_nothing_until_it_takes(entrance: Entrance) -> None:
    stuck, other = entrance.worker(), entrance.worker()
    entrance.clients(4)
    assert taken(other)([4])
    entrance.clients(2)
    assert taken(other)([6])
    assert stuck.take() == 0
    assert stuck.words == KNOCK
    assert soon(lambda: not stuck.place.stuck)
    entrance.clients(2)
    assert taken(stuck, other)([2, 6])


def test_the_only_worker_keeps_what_it_is_slow_to_take_and_gets_more_as_soon_as_it_says_that_it_is_there(
    entrance: Entrance,
) -> None:
    worker = entrance.worker()
    entrance.clients(2)
    assert soon(lambda: worker.place.stuck)
    entrance.client()
    assert taken(worker)([2])
    assert worker.words == FRESH * 2 + KNOCK
    worker.say(READY)
    assert taken(worker)([3])


def test_a_worker_that_was_handed_something_just_now_is_not_stuck() -> None:
    worker = Played()
    try:
        for _ in range(3):
            assert not worker.place.look()
            worker.place.hand(socket.socket(), FRESH)
            assert not worker.place.look()
            worker.take()
        worker.place.hand(socket.socket(), FRESH)
        assert [worker.place.look() for _ in range(3)] == [False, True, False]
        assert worker.place.stuck
        worker.take()
        assert not worker.place.look()
        assert not worker.place.stuck
    finally:
        worker.tidy()
        worker.place.close()


def test_the_worker_with_the_most_is_asked_for_what_is_over_its_share(entrance: Entrance) -> None:
    busy = entrance.worker()
    entrance.clients(9)
    assert taken(busy)([9])
    entrance.worker()
    assert soon(lambda: busy.take() == 9 and GIVE in busy.words)
    assert busy.words.count(GIVE) == 4


def test_after_it_is_closed_nobody_is_accepted_and_workers_keep_what_they_were_handed(entrance: Entrance) -> None:
    worker = entrance.worker()
    entrance.clients(2)
    assert soon(lambda: worker.place.untaken == 2)
    entrance.doorman.close()
    assert not entrance.doorman.alive
    assert refused(entrance)
    assert worker.take() == 2


def test_where_files_run_out_connections_wait_in_the_backlog(
    entrance: Entrance, stack: ExitStack, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Exhausted:
        """The listening socket on a machine that is out of descriptors for a while."""

        def __init__(self, listener: socket.socket, failures: int) -> None:
            self._listener, self._failures = listener, failures

        def accept(self) -> tuple[socket.socket, object]:
            if self._failures:
                self._failures -= 1
                raise OSError(24, "Too many open files")
            return self._listener.accept()

        def __getattr__(self, name: str) -> object:
            return getattr(self._listener, name)

    worker = entrance.worker()
    monkeypatch.setattr(entrance.doorman, "_listener", Exhausted(entrance.listener, 3))
    entrance.client()
    assert taken(worker)([1])
    assert [record.getMessage() for record in caplog.records] == ["connections wait: [Errno 24] Too many open files"]


def test_where_another_server_listens_first_it_ends_and_names_the_address(
    stack: ExitStack, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = (stack.enter_context(socket.socket()) for _ in range(2))
    for one in (first, second):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    first.bind(("127.0.0.1", 0))
    second.bind(first.getsockname())
    doorman = Doorman(second, room=ROOM, clock=time.monotonic)
    stack.callback(doorman.close)
    worker = Played()
    stack.callback(worker.tidy)
    first.listen()
    doorman.start()
    doorman.seat(worker.place)
    worker.say(READY)
    assert soon(lambda: not doorman.alive)
    (told,) = [record.getMessage() for record in caplog.records]
    assert str(first.getsockname()[1]) in told
    assert "in use" in told


def test_a_worker_that_has_nothing_to_answer_with_is_given_no_connection_while_another_has(entrance: Entrance) -> None:
    stocked, empty = entrance.worker(), entrance.empty_worker()
    entrance.clients(4)
    assert taken(stocked, empty)([4, 0])
    empty.say(EMPTY + STOCKED)
    assert soon(lambda: empty.place.stocked)
    entrance.clients(2)
    assert taken(stocked, empty)([4, 2])


def test_where_nobody_has_anything_to_answer_with_connections_come_all_the_same(entrance: Entrance) -> None:
    empty = entrance.empty_worker()
    entrance.clients(2)
    assert taken(empty)([2])


def test_a_worker_that_has_nothing_to_answer_with_is_asked_for_what_it_has_once_another_has(entrance: Entrance) -> None:
    empty = entrance.empty_worker()
    entrance.clients(2)
    assert taken(empty)([2])
    stocked = entrance.worker()
    assert soon(lambda: (empty.take(), empty.words.count(GIVE) >= 2)[1])
    for one in empty.taken:
        empty.say(BACK, one)
    assert taken(stocked)([2])
    assert stocked.words.startswith(RETURNED * 2)
