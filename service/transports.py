"""How a connection is written to and read from, where uvicorn's own way costs a call or has no bound."""

import asyncio
from collections.abc import Sized
from socket import SO_ERROR, SOL_SOCKET

from uvicorn.protocols.http.flow_control import FlowControl

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Joined(asyncio.Transport):
    """What one answer is written to: its head goes out with the beginning of its body, in one call and one packet.

    uvicorn writes them one after the other, and its client would be woken twice. bodiless: a head is all of it. It
    knows nothing of the cycle that it serves, so that an answered request goes with its last reference.
    """

    def __init__(self, transport: asyncio.Transport, *, bodiless: bool) -> None:
        self._transport = transport
        self._head = b"" if bodiless else None
        self._called = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, but for a head that a body follows, and what comes after the end of the connection."""
        if self._transport.is_closing():
            return
        if self._head is None and data != CONTINUE:
            self._head = bytes(data)
            return
        self._transport.write(self._head + data if self._head else data)
        if self._head:
            self._head = b""

    def call(self) -> None:
        """Ask a client that has said all whether it still reads, where nothing of the answer is out.

        An interim answer means nothing to one that does (RFC 9110, 15.2.1); one that has closed its connection, which
        looks the same from here, refuses it, and `left` is true from then on.
        """
        if self._head != b"" and not self._transport.is_closing():
            self._transport.write(CONTINUE)
            self._called = True

    def left(self) -> bool:
        """Whether the connection is over, so that nobody would read the answer."""
        if self._called and self._transport.get_extra_info("socket").getsockopt(SOL_SOCKET, SO_ERROR):
            self._transport.abort()
        return self._transport.is_closing()

    def is_closing(self) -> bool:
        """Whether the connection is being closed, which uvicorn asks before it says that a body may come."""
        return self._transport.is_closing()

    def close(self) -> None:
        """Close it after what was held back."""
        if self._head and not self._transport.is_closing():
            self._transport.write(self._head)
        self._transport.close()


class Paced(FlowControl):
    """Reads nothing more while a request that has arrived waits for those before it to be answered.

    uvicorn reads on as each is begun, and a client that reads no answer could have it hold requests without end.
    """

    def __init__(self, transport: asyncio.Transport, waiting: Sized) -> None:
        super().__init__(transport)
        self._waiting = waiting

    def resume_reading(self) -> None:
        """Read on, unless a request waits."""
        if not self._waiting:
            super().resume_reading()
