"""Clients that leave before their ranking begins: nothing is ranked for them, and nothing counts as shown to them."""

import http.client
import json
import select
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from threading import Event

import pytest

from service.api.app import create_app
from service.container import Container
from service.fetching import Fetched
from service.guest import Guest
from service.keys import Keys
from service.rank_desk import FETCHES, DeskLimits, RankDesk
from tests.service.test_reception import PATIENCE_S, House, guests, own_port, send
from tests.service.wire import soon

Client = http.client.HTTPConnection
PATIENT = DeskLimits(max_under_way=100, batch_limit=32, shed_after_s=3600.0)
HOLDING = [f"holds{number}" for number in range(FETCHES)]
EVER = 0.0, 1e12
PLAIN, BY_ANOTHER_NAME = "application/json", "application/vnd.shop+json"


class Front:
    """A server whose store gives nothing back until `release` is set; `fetched`: the users it was asked for."""

    def __init__(self, stack: ExitStack, container: Container) -> None:
        self.release, self.fetched = Event(), list[str]()
        self._fetch = container.ranker.fetch
        container.ranker.fetch = self._held  # as it is of a store that is slow
        elsewhere = stack.enter_context(ThreadPoolExecutor(FETCHES))
        desk = RankDesk(container.ranker, limits=PATIENT, clock=container.stopwatch, elsewhere=elsewhere)
        self.container = replace(container, desk=desk)
        self.house = House(stack)
        keys = Keys.load(container.settings, container.home, announce=lambda _: None)
        self.worker = self.house.worker(create_app(self.container, keys))
        stack.callback(self.release.set)
        assert soon(lambda: container.engine.version is not None)
        self.holding = [self._holder(name) for name in HOLDING]

    def _held(self, user_ids: Sequence[str], /, *, at_once: bool = False) -> Sequence[Fetched]:
        self.fetched += user_ids
        assert self.release.wait(PATIENCE_S)
        return self._fetch(user_ids, at_once=at_once)

    def _holder(self, name: str) -> Client:
        client = self.ask(name)
        assert soon(lambda: name in self.fetched)
        return client

    def ask(self, name: str, *, version: str = "1.1", kind: str = PLAIN) -> Client:
        """A client whose request for this user, under the same id, is here behind those that hold the store."""
        client = self.house.client()
        body = json.dumps({"user": {"id": name}, "k": 3})
        told = ("host: here", f"content-type: {kind}", f"content-length: {len(body)}", f"x-request-id: {name}")
        send(client, "\r\n".join((f"POST /rank HTTP/{version}", *told, "", body)).encode())
        assert soon(lambda: any(guest.cycle and not guest.cycle.more_body for guest in self.guests(own_port(client))))
        return client

    def guests(self, port: int) -> list[Guest]:
        return [guest for guest in guests(self.worker) if guest.client and guest.client[1] == port]

    def lets(self, go: Callable[[Client], None], client: Client) -> None:
        """Let a client go, and wait until this machine knows of it."""
        port = own_port(client)
        go(client)
        assert soon(lambda: all(is_refused(guest) for guest in self.guests(port)))

    def logged(self) -> set[str]:
        self.container.impressions.flush(["after"])
        return {one.request_id for one in self.container.log.impressions(*EVER)}

    def counted(self, outcome: str) -> bool:
        text = self.container.metrics.expose(lambda: None).decode()
        return f'appshelf_request_seconds_count{{outcome="{outcome}",route="/rank"}} 1.0' in text


def is_refused(guest: Guest) -> bool:
    """Whether the other side has refused what it was sent."""
    if guest.transport.is_closing():
        return True
    look = select.poll()
    look.register(guest.transport.get_extra_info("socket").fileno(), 0)
    return any(seen & select.POLLHUP for _, seen in look.poll(0))


def status(client: Client) -> int:
    """What the request was answered with that was sent by hand."""
    assert client.sock is not None
    answer = http.client.HTTPResponse(client.sock)
    answer.begin()
    answer.read()
    return answer.status


def close(client: Client) -> None:
    client.close()


def reset(client: Client) -> None:
    assert client.sock is not None
    client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


@pytest.fixture
def front(container: Container) -> Iterator[Front]:
    with ExitStack() as stack:
        yield Front(stack, container)


@pytest.mark.parametrize("kind", [PLAIN, BY_ANOTHER_NAME], ids=["the short way", "the documented route"])
@pytest.mark.parametrize("leave", [close, reset])
def test_who_leaves_before_the_ranking_begins_is_not_ranked_and_was_shown_nothing(
    front: Front, leave: Callable[[Client], None], kind: str
) -> None:
    front.lets(leave, front.ask("leaving", kind=kind))
    after = front.ask("after", kind=kind)
    front.release.set()
    assert [status(client) for client in (*front.holding, after)] == [200] * (FETCHES + 1)
    assert sorted(front.fetched) == sorted([*HOLDING, "after"])
    assert front.logged() == {*HOLDING, "after"}
    assert soon(lambda: front.counted("left"))


@pytest.mark.parametrize("version", ["1.1", "1.0"])
def test_who_has_said_all_and_still_reads_is_ranked(front: Front, version: str) -> None:
    client, after = front.ask("reading", version=version), front.ask("after")
    assert client.sock is not None
    client.sock.shutdown(socket.SHUT_WR)
    interim = b"HTTP/1.1 100 Continue\r\n\r\n" if version == "1.1" else b""
    assert client.sock.recv(len(interim), socket.MSG_WAITALL) == interim
    front.release.set()
    assert status(after) == 200
    assert client.sock.recv(12, socket.MSG_PEEK | socket.MSG_WAITALL) == b"HTTP/1.1 200"
    answer = http.client.HTTPResponse(client.sock)
    answer.begin()
    assert json.loads(answer.read())["request_id"] == "reading"
    assert front.logged() == {*HOLDING, "reading", "after"}
