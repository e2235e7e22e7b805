"""A connection to a worker: uvicorn's protocol, which answers to its end and can be given to another worker."""

import asyncio
import json
import os
import re
import socket
from collections.abc import Callable
from http import HTTPStatus

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.leaving import LEFT
from service.patience import Owed
from service.place import BACK
from service.transports import Joined, Paced

CLIENT_WITHIN_S = 15.0
"""For a connection's first request to come, the head of any to be whole, or anything of an answer to be read."""

UNREADABLE = "what was sent cannot be read as a request of HTTP/1.1; mend it and send it on a new connection"
MOST_HEAD = 64 * 1024
"""Bytes that may come of a request without any of its body, beside those of the packet that it begins in.

The parser puts a header together anew with every packet, so that one without an end would hold up all other requests.
"""

UNFINISHED = f"the head of the request did not arrive within {CLIENT_WITHIN_S:g} s; send it again, in one go"
TOO_LONG = f"the head of the request is longer than the {MOST_HEAD} bytes allowed; send it again with shorter headers"

OFFER, PASSED_OVER = re.compile(rb"\r\n(?i:upgrade)(?=:)"), b"\r\nx-offer"
"""The header that offers to go on in another protocol, which Java's HTTP client sends with each first request.

A server may pass it over (RFC 9110, 7.8); the parser does not, and takes the body for words of that protocol.
"""


class Guest(HttpToolsProtocol):
    """A connection that can be given to another worker; `left` is called when it is over here.

    answered: called with it after each answer, before anything of a next request is read.
    """

    left: Callable[[], None]
    answered: Callable[["Guest"], None]
    _arriving = False
    _without_body = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin."""
        super().connection_made(transport)
        self.flow = Paced(transport, self.pipeline)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes whatever is under way
        """Keep the connection until what was asked is answered, where all of it is here: the client may still read."""
        if self._arriving or not self._answers:
            return False
        self.cycle.keep_alive = False
        if isinstance(answer := self.cycle.transport, Joined) and self.scope["http_version"] == "1.1":
            answer.call()
        return True

    def data_received(self, data: bytes) -> None:
        """Read on, but not a head without an end."""
        if (not self._arriving or self._in_head) and OFFER.search(data, 0, end := _end_of_head(data)):
            data = OFFER.sub(PASSED_OVER, data[:end]) + data[end:]
        self._without_body += len(data)
        super().data_received(data)
        if self._arriving and self._without_body > MOST_HEAD and not self.transport.is_closing():
            self._refuse_head()

    def _refuse_head(self) -> None:
        """End the connection, in words where nothing else is to be answered first."""
        if self._in_head and not self._answers:
            self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, TOO_LONG)
        else:
            self.transport.abort()

    def on_message_begin(self) -> None:
        """Note that a request is arriving, whatever becomes of one before it."""
        super().on_message_begin()
        self._arriving, self._without_body = True, 0
        self._unset_keepalive_if_required()

    def on_headers_complete(self) -> None:
        """Begin an answer."""
        super().on_headers_complete()
        if isinstance(self.cycle, RequestResponseCycle):
            answer = self.cycle.transport = Joined(self.transport, bodiless=self.scope["method"] == "HEAD")
            self.scope["state"][LEFT] = answer.left

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        super().on_body(body)
        self._without_body = 0

    def on_message_complete(self) -> None:
        """Note that all of it is here; the next is waited for where it was answered before that."""
        super().on_message_complete()
        self._arriving = False
        self.expect()

    def on_response_complete(self) -> None:
        """Say so."""
        super().on_response_complete()
        self.answered(self)

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP as every other error is."""
        self._refuse(HTTPStatus.BAD_REQUEST, UNREADABLE)

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer with a problem what no application sees, and close."""
        request_id, title = os.urandom(16).hex(), status.phrase.capitalize()
        told = {"type": "about:blank", "title": title, "status": status, "detail": detail, "instance": ""}
        body = json.dumps({**told, "request_id": request_id, "errors": []})
        head = (f"HTTP/1.1 {status} {status.phrase}", "content-type: application/problem+json")
        lines = (*head, f"content-length: {len(body)}", f"x-request-id: {request_id}", "connection: close", "", body)
        self.transport.write("\r\n".join(lines).encode())
        self.transport.close()

    @property
    def owed(self) -> Owed | None:
        """What its client is waited for without a timer: the rest of a request, a first one, or to read its answer."""
        unread = self.transport.get_write_buffer_size()
        timed = self._answers or self.timeout_keep_alive_task is not None or self.transport.is_closing()
        return (self.scope if self._in_head else self.cycle, unread) if unread or not timed else None

    def give_up(self) -> None:
        """End the connection, in words where the head of a request is arriving."""
        if self._in_head and not self.transport.get_write_buffer_size():
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, UNFINISHED)
        else:
            self.transport.abort()

    @property
    def _in_head(self) -> bool:
        """True while the head of a request is arriving."""
        return self._arriving and (self.cycle is None or self.cycle.scope is not self.scope)

    @property
    def _answers(self) -> bool:
        """True while an answer is worked on."""
        return self.cycle is not None and not self.cycle.response_complete

    def connection_lost(self, exc: Exception | None) -> None:
        """Say so."""
        super().connection_lost(exc)
        self.left()

    @property
    def idle(self) -> bool:
        """True between two requests: all of one is read and none of the next, and no answer is still to be written."""
        between = not self._arriving and (self.headers is None or self.timeout_keep_alive_task is not None)
        return between and not self.transport.is_closing() and not self.transport.get_write_buffer_size()

    def expect(self) -> None:
        """Where nothing arrives and nothing is unanswered, wait for a next request no longer than after an answer."""
        if not (self._answers or self._arriving or self.transport.is_closing()):
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def give(self, door: socket.socket) -> None:
        """Pass the connection on through `door` and forget it. Raises OSError, and keeps it then."""
        socket.send_fds(door, [BACK], [self.transport.get_extra_info("socket").fileno()])
        self.left = lambda: None
        self.transport.close()


def _end_of_head(data: bytes) -> int:
    """Where the first head in it ends."""
    end = data.find(b"\r\n\r\n")
    return len(data) if end < 0 else end
