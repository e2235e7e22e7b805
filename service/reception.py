"""A worker's side of the door: uvicorn, which is handed its connections instead of accepting them."""

import asyncio
import json
import logging
import os
import socket
from collections.abc import Callable, Sequence

from uvicorn import Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from service.place import BACK, CLOSED, EMPTY, FRESH, GIVE, KNOCK, LEAVING, READY, RETURNED, STOCKED
from service.readiness import SERVES
from service.transports import Joined, Paced

WORDS_AT_ONCE, SOCKETS_AT_ONCE, TAKEN_AT_ONCE = 64, 16, 64
TURN_S = 0.01
TURNS_TO_GIVE, TURNS_TO_LEAVE = 50, 100
CONNECTIONS = FRESH + RETURNED

UNREADABLE = {
    "type": "about:blank",
    "title": "Bad request",
    "status": 400,
    "detail": "what was sent cannot be read as a request of HTTP/1.1; mend it and send it on a new connection",
    "instance": "",
    "errors": [],
}
"""The problem that what is not HTTP is answered with: no application sees it."""

log = logging.getLogger(__name__)


class Guest(HttpToolsProtocol):
    """A connection that can be given to another worker; `left` is called when it is over here.

    answered: called with it after each answer, before anything of a next request is read.
    """

    left: Callable[[], None]
    answered: Callable[["Guest"], None]
    _arriving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Begin."""
        super().connection_made(transport)
        self.flow = Paced(transport, self.pipeline)

    def eof_received(self) -> bool:  # type: ignore[override]  # uvicorn's closes whatever is under way
        """Keep the connection until what was asked is answered, where all of it is here: the client may still read."""
        if self.cycle is None or self.cycle.response_complete or self._arriving:
            return False
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """Note that a request is arriving, whatever becomes of one before it."""
        super().on_message_begin()
        self._arriving = True
        self._unset_keepalive_if_required()

    def on_headers_complete(self) -> None:
        """Begin an answer."""
        super().on_headers_complete()
        if isinstance(self.cycle, RequestResponseCycle):
            self.cycle.transport = Joined(self.transport, self.cycle)

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
        request_id = os.urandom(16).hex()
        body = json.dumps(UNREADABLE | {"request_id": request_id})
        head = ("HTTP/1.1 400 Bad Request", "content-type: application/problem+json", f"content-length: {len(body)}")
        lines = (*head, f"x-request-id: {request_id}", "connection: close", "", body)
        self.transport.write("\r\n".join(lines).encode())
        self.transport.close()

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
        answered = self.cycle is None or self.cycle.response_complete
        if answered and not self._arriving and not self.transport.is_closing():
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def give(self, door: socket.socket) -> None:
        """Pass the connection on through `door` and forget it. Raises OSError, and keeps it then."""
        socket.send_fds(door, [BACK], [self.transport.get_extra_info("socket").fileno()])
        self.left = lambda: None
        self.transport.close()


class Reception(Server):
    """A uvicorn server whose one socket is the door: its end of the pair that the doorman passes connections over."""

    _door: socket.socket
    _untold = b""
    _shut = False
    _owed = 0
    _stocked = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the application, then say that connections may come."""
        if self.should_exit:  # told to end before the application was there to hear it
            return
        (self._door,) = sockets or []
        self._door.setblocking(False)
        self._welcomed: set[asyncio.Task[None]] = set()
        await super().startup(sockets=[])
        asyncio.get_running_loop().add_reader(self._door, self._take)
        self._tell_stock()
        self._tell(READY)

    async def on_tick(self, counter: int) -> bool:
        """Ten times a second: say where there has come to be something to answer with, or no longer is."""
        self._tell_stock()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take nothing more, give to others what is between two requests, and let the rest end."""
        asyncio.get_running_loop().remove_reader(self._door)
        self._tell(LEAVING)
        for _ in range(TURNS_TO_LEAVE):
            self._give(len(self.server_state.connections))
            if self._shut or not (self.server_state.connections or self._welcomed):
                break
            await asyncio.sleep(TURN_S)
        await super().shutdown(sockets)

    def _take(self) -> None:
        """Take what lies there: a connection a call, so many a turn, since a turn is long where much is to be done."""
        for _ in range(TAKEN_AT_ONCE):
            try:
                words, given, _, _ = socket.recv_fds(self._door, WORDS_AT_ONCE, SOCKETS_AT_ONCE)
            except BlockingIOError:  # that was all
                return
            except ConnectionResetError:  # the doorman has gone with words of this worker unheard
                words = b""
            if not words:
                asyncio.get_running_loop().remove_reader(self._door)
                return
            self._hear(words, given)

    def _hear(self, words: bytes, given: list[int]) -> None:
        kinds = [word for word in words if word in CONNECTIONS]
        if lost := len(kinds) - len(given):
            log.error("%d connections could not be taken: this process has too many files open", lost)
            self._tell(CLOSED * lost)
        for descriptor, kind in zip(given, kinds, strict=False):
            task = asyncio.create_task(self._welcome(socket.socket(fileno=descriptor), fresh=kind in FRESH))
            self._welcomed.add(task)
            task.add_done_callback(self._welcomed.discard)
        if KNOCK in words:
            self._tell(READY)
        if asked := words.count(GIVE):
            self._owed = asked
            self._give_in_turns(TURNS_TO_GIVE)

    def _offer(self, guest: Guest) -> None:
        """Give one that was just answered where some are owed.

        Its client may be so quick that the loop never sees it between two requests, so its next is not read till then.
        """
        if self._owed and guest.timeout_keep_alive_task is not None:
            guest.flow.pause_reading()
            asyncio.get_running_loop().call_soon(self._give_or_go_on, guest)  # by then the answer is written

    def _give_or_go_on(self, guest: Guest) -> None:
        given = self._pass_on([guest]) if self._owed and guest.idle else 0
        self._owed -= given
        if not given:
            guest.flow.resume_reading()

    async def _welcome(self, connection: socket.socket, *, fresh: bool) -> None:
        connection.setblocking(False)
        try:
            _, guest = await asyncio.get_running_loop().connect_accepted_socket(self._guest, connection)
        except OSError as error:
            log.warning("a connection could not be taken: %s", error)
            connection.close()
            self._tell(CLOSED)
            return
        if not fresh:
            guest.expect()

    def _guest(self) -> Guest:
        guest = Guest(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)
        guest.left = lambda: self._tell(CLOSED)
        guest.answered = self._offer
        return guest

    def _give_in_turns(self, turns: int) -> None:
        """Give what is owed as connections come to be between two requests, for so many turns."""
        self._owed -= self._give(self._owed)
        if turns == 1:
            self._owed = 0  # whoever asked asks again
        elif self._owed:
            asyncio.get_running_loop().call_later(TURN_S, self._give_in_turns, turns - 1)

    def _give(self, count: int) -> int:
        """Give up to so many connections that are idle to other workers, and how many were given."""
        idle = [one for one in self.server_state.connections if isinstance(one, Guest) and one.idle]
        return self._pass_on(idle[:count])

    def _pass_on(self, guests: Sequence[Guest]) -> int:
        """Give these, up to the first that cannot be given now, and how many were."""
        for given, guest in enumerate(guests):
            try:
                guest.give(self._door)
            except BlockingIOError:
                return given
            except OSError:
                self._shut = True
                return given
        return len(guests)

    def _tell_stock(self) -> None:
        serves: Callable[[], bool] | None = self.lifespan.state.get(SERVES)
        stocked = serves is None or serves()
        if stocked != self._stocked:
            self._stocked = stocked
            self._tell(STOCKED if stocked else EMPTY)

    def _tell(self, words: bytes) -> None:
        self._untold += words
        try:
            self._untold = self._untold[self._door.send(self._untold) :]
        except BlockingIOError:
            asyncio.get_running_loop().call_later(TURN_S, self._tell, b"")
        except OSError:  # nobody listens any more
            self._untold, self._shut = b"", True
