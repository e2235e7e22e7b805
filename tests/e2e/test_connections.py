"""Connections are spread over the workers by construction, whatever becomes of a worker."""

import http.client
import json
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil
import pytest

from tests.e2e.load import RANK, load_on
from tests.e2e.server import END_S, Server, running

pytestmark = pytest.mark.e2e

Client = http.client.HTTPConnection
PATIENCE_S = 120


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    with running(home, workers=2) as server:
        yield server


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as held:
        yield held


def soon(true: Callable[[], bool]) -> bool:
    """Whether it comes true in the time of a few starts of a worker, on a busy machine."""
    patience = time.monotonic() + PATIENCE_S
    while not true() and time.monotonic() < patience:
        time.sleep(0.05)
    return true()


def connected(server: Server, stack: ExitStack, count: int) -> list[Client]:
    """So many keep-alive clients, one after the other."""
    address = urlsplit(server.url)
    assert address.hostname
    clients = [Client(address.hostname, address.port, timeout=60) for _ in range(count)]
    for client in clients:
        client.connect()
        stack.callback(client.close)
    return clients


def ask(client: Client) -> int:
    client.request("POST", "/rank", json.dumps(RANK), {"Content-Type": "application/json"})
    response = client.getresponse()
    response.read()
    return response.status


def ports(clients: Sequence[Client]) -> list[int]:
    """Each client's own port; fails where its connection was closed."""
    assert all(client.sock is not None for client in clients)
    return [client.sock.getsockname()[1] for client in clients if client.sock]


def spread(server: Server, clients: Sequence[Client]) -> list[int]:
    """How many of these connections each worker has, fewest first."""
    return held(server, ports(clients))


def held(server: Server, mine: Sequence[int]) -> list[int]:
    return sorted(len(clients_of(worker) & set(mine)) for worker in server.workers())


def nobody_holds(server: Server, gone: Sequence[int]) -> bool:
    return not any(held(server, gone))


def clients_of(worker: psutil.Process) -> set[int]:
    """The ports of those connected to it."""
    try:
        return {one.raddr.port for one in worker.net_connections("tcp") if one.raddr}
    except psutil.NoSuchProcess:  # it has just ended
        return set()


def test_eight_connections_over_two_workers_are_always_four_and_four(server: Server, stack: ExitStack) -> None:
    for _ in range(5):
        clients = connected(server, stack, 8)
        assert {ask(client) for client in clients} == {200}
        assert spread(server, clients) == [4, 4]
        former = ports(clients)
        for client in clients:
            client.close()
        assert soon(partial(nobody_holds, server, former))


def test_after_a_worker_was_killed_those_that_are_left_even_out_again(server: Server, stack: ExitStack) -> None:
    clients = connected(server, stack, 8)
    assert {ask(client) for client in clients} == {200}
    killed = server.workers()[0]
    lost = clients_of(killed)
    killed.kill()
    killed.wait(END_S)
    kept = [client for client in clients if ports([client])[0] not in lost]
    assert len(kept) == 4
    kept += connected(server, stack, 4)
    before = ports(kept)
    assert soon(lambda: {ask(client) for client in kept} == {200} and spread(server, kept) == [4, 4])
    assert ports(kept) == before


def test_workers_are_replaced_under_load_on_sighup_and_no_request_fails_and_no_connection_is_closed(
    server: Server, stack: ExitStack
) -> None:
    clients = connected(server, stack, 8)
    assert {ask(client) for client in clients} == {200}
    before, former = ports(clients), {worker.pid for worker in server.workers()}
    with load_on(server) as load:
        server.process.send_signal(signal.SIGHUP)
        assert soon(
            lambda: (
                {ask(client) for client in clients} == {200}
                and not former & {worker.pid for worker in server.workers()}
            )
        )
        assert soon(lambda: {ask(client) for client in clients} == {200} and spread(server, clients) == [4, 4])
    assert [one for one in load.failures() if one.path == "/rank"] == []  # one that leaves says that it is not ready
    assert ports(clients) == before


def test_a_worker_that_hangs_is_given_nothing_and_its_untaken_connections_are_served(
    server: Server, stack: ExitStack
) -> None:
    hanging, _ = server.workers()
    hanging.suspend()
    try:
        assert {ask(client) for client in connected(server, stack, 6)} == {200}
    finally:
        hanging.resume()
    clients = connected(server, stack, 8)
    assert soon(lambda: {ask(client) for client in clients} == {200} and spread(server, clients) == [4, 4])


def test_a_worker_more_takes_its_share_and_one_less_gives_its_own_up(server: Server, stack: ExitStack) -> None:
    clients = connected(server, stack, 6)
    server.process.send_signal(signal.SIGTTIN)
    assert soon(lambda: {ask(client) for client in clients} == {200} and spread(server, clients) == [2, 2, 2])
    before = ports(clients)
    server.process.send_signal(signal.SIGTTOU)
    assert soon(lambda: {ask(client) for client in clients} == {200} and spread(server, clients) == [3, 3])
    assert ports(clients) == before


def test_a_server_that_was_told_to_end_takes_no_connection_and_frees_its_address(
    server: Server, stack: ExitStack
) -> None:
    clients = connected(server, stack, 4)
    assert {ask(client) for client in clients} == {200}
    assert server.stop() == 0
    address = urlsplit(server.url)
    with socket.socket() as next_server:
        next_server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        next_server.bind((address.hostname, address.port))


def test_one_worker_and_an_address_of_version_6(home: Path, stack: ExitStack) -> None:
    with running(home, settings={"APPSHELF_HOST": "::1"}) as server:
        clients = connected(server, stack, 3)
        assert {ask(client) for client in clients} == {200}
        assert spread(server, clients) == [3]


def test_the_supervisor_takes_next_to_no_processor_time_while_nobody_connects(server: Server, stack: ExitStack) -> None:
    clients = connected(server, stack, 2)
    supervisor = psutil.Process(server.process.pid)
    before = supervisor.num_ctx_switches().voluntary
    assert {ask(client) for client in clients for _ in range(100)} == {200}
    # a request is not the supervisor's business: what wakes it is its own round of the workers, twice a second
    assert supervisor.num_ctx_switches().voluntary - before < 100
