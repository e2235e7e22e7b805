"""Keep-alive connections with one request out on each: requests of ready-made bytes, answers by status alone."""

import re
import select
import selectors
import socket
import time
from array import array
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import cycle

MOST = 900
"""Connections open at a time; 1,024 files is what a process may have open where nobody has allowed it more."""

TIMEOUT_S = 5.0
AT_ONCE = 65_536
VERSION = re.compile(rb'"version":"([^"]+)"')
LENGTH = re.compile(rb"content-length: *(\d+)")


@dataclass(eq=False, slots=True)
class Wire:
    """One connection, and of the request that is out on it when it was due and sent, and what was heard so far."""

    socket: socket.socket
    due: float = 0.0
    sent: float = 0.0
    heard: bytes = b""
    out: bool = False


@dataclass(frozen=True)
class Heard:
    """The columns of `bench.openloop.Answers`, as they grow."""

    due: "array[float]" = field(default_factory=lambda: array("d"))
    sent: "array[float]" = field(default_factory=lambda: array("d"))
    received: "array[float]" = field(default_factory=lambda: array("d"))
    status: "array[int]" = field(default_factory=lambda: array("q"))
    version: "array[int]" = field(default_factory=lambda: array("q"))
    hinted: "array[int]" = field(default_factory=lambda: array("q"))

    def times(self, due: float, sent: float) -> None:
        """A request that has been answered now, or never will be."""
        self.due.append(due)
        self.sent.append(sent)
        self.received.append(time.monotonic())

    def answer(self, status: int, *, version: int = -1, hinted: bool = False) -> None:
        """What came of it."""
        self.status.append(status)
        self.version.append(version)
        self.hinted.append(hinted)


class Wires:
    """Connections to one server of this machine; each request goes out on the one that was free the longest.

    out: requests without an answer yet; versions: named in answers, in the order heard.
    """

    def __init__(self, port: int, bodies: Sequence[bytes], *, connections: int) -> None:
        self.out = 0
        self.heard = Heard()
        self.versions: list[str] = []
        self._port = port
        self._requests = cycle([_request(port, body) for body in bodies])
        self._known: dict[bytes, int] = {}
        self._selector = selectors.DefaultSelector()
        self._open = 0
        self._free: deque[Wire] = deque()
        self._free.extend(self._connect() for _ in range(connections))

    @property
    def free(self) -> bool:
        """Whether a connection waits for a request."""
        return bool(self._free)

    def send(self, due: float) -> None:
        """Send the next request, on a connection of its own where none is free; one that cannot be sent has failed."""
        wire = None
        try:
            wire = self._free.popleft() if self._free else self._connect()
            wire.due, wire.sent, wire.heard, wire.out = due, time.monotonic(), b"", True
            wire.socket.sendall(next(self._requests))
            self.out += 1
        except OSError:
            self.heard.times(due, time.monotonic())
            self.heard.answer(0)
            if wire is not None:
                self._close(wire)

    def receive(self, timeout_s: float) -> None:
        """Take in what comes within this time; returns with the first of it."""
        # The selector's own wait counts in whole milliseconds.
        if not select.select([self._selector], [], [], max(timeout_s, 0.0))[0]:
            return
        for key, _ in self._selector.select(0):
            self._hear(key.data)

    def give_up(self) -> None:
        """Count everything that is still out as failed."""
        for key in list(self._selector.get_map().values()):
            if key.data.out:
                self._lose(key.data)

    def close(self) -> None:
        """End every connection."""
        for key in list(self._selector.get_map().values()):
            self._close(key.data)
        self._selector.close()

    def _connect(self) -> Wire:
        if self._open >= MOST:
            raise OSError(f"{MOST} connections are open")
        link = socket.create_connection(("127.0.0.1", self._port), timeout=TIMEOUT_S)
        link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        wire = Wire(link)
        self._selector.register(link, selectors.EVENT_READ, wire)
        self._open += 1
        return wire

    def _hear(self, wire: Wire) -> None:
        content = b""
        with suppress(OSError):
            content = wire.socket.recv(AT_ONCE)
        if not content:
            self._lose(wire)
            return
        wire.heard += content
        head, separator, body = wire.heard.partition(b"\r\n\r\n")
        length = LENGTH.search(head.lower()) if separator else None
        if length is None or len(body) < int(length[1]) or not wire.out:
            return
        version = VERSION.search(body)
        self.heard.times(wire.due, wire.sent)
        place, hinted = self._place(version[1]) if version else -1, b"retry-after:" in head.lower()
        self.heard.answer(int(wire.heard[9:12]), version=place, hinted=hinted)
        wire.out = False
        self.out -= 1
        self._free.append(wire)

    def _place(self, version: bytes) -> int:
        if version not in self._known:
            self._known[version] = len(self.versions)
            self.versions.append(version.decode())
        return self._known[version]

    def _lose(self, wire: Wire) -> None:
        """A connection has ended: the request that was out on it has failed, one that waited is forgotten."""
        if wire.out:
            self.heard.times(wire.due, wire.sent)
            self.heard.answer(0)
            self.out -= 1
        else:
            self._free.remove(wire)
        self._close(wire)

    def _close(self, wire: Wire) -> None:
        wire.out = False
        self._selector.unregister(wire.socket)
        wire.socket.close()
        self._open -= 1


def _request(port: int, body: bytes) -> bytes:
    head = (
        f"POST /rank HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body
