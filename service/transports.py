"""How a connection is written to and read from, where uvicorn's own way costs a call or has no bound."""

import asyncio
from collections.abc import Sized

from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Joined(asyncio.Transport):
    """What one answer is written to: its head goes out with the beginning of its body, in one call and one packet.

    uvicorn writes them one after the other, and its client would be woken twice.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        self._transport = transport
        self._cycle = cycle
        self._head: bytes | None = None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Write, but for a head that a body follows, and what comes after the end of the connection."""
        if self._transport.is_closing():
            return
        if self._head is None and self._cycle.response_started and self._cycle.scope["method"] != "HEAD":
            self._head = bytes(data)
            return
        self._transport.write(self._head + data if self._head else data)
        self._head = b""

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
