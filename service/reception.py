"""A worker's side of the door: uvicorn, which is handed its connections instead of accepting them."""

import asyncio
import logging
import socket
from collections.abc import Callable, Sequence

from uvicorn import Config, Server

from service.guest import CLIENT_WITHIN_S, Guest
from service.patience import Patience
from service.place import CLOSED, EMPTY, FRESH, GIVE, KNOCK, LEAVING, READY, RETURNED, STOCKED
from service.readiness import SERVES

WORDS_AT_ONCE, SOCKETS_AT_ONCE, TAKEN_AT_ONCE = 64, 16, 64
TURN_S = 0.01
TURNS_TO_GIVE, TURNS_TO_LEAVE = 50, 100
CONNECTIONS = FRESH + RETURNED

LOOK_EVERY = 10  # ticks, which is a second

log = logging.getLogger(__name__)


class Reception(Server):
    """A uvicorn server whose one socket is the door: its end of the pair that the doorman passes connections over.

    clock: monotonic seconds, by which clients are waited for.
    """

    _door: socket.socket
    _untold = b""
    _shut = False
    _owed = 0
    _stocked = True

    def __init__(self, config: Config, *, clock: Callable[[], float]) -> None:
        super().__init__(config)
        self._patience = Patience(clock, within_s=CLIENT_WITHIN_S)

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
        if counter % LOOK_EVERY == 0:
            self.look_round()
        return await super().on_tick(counter)

    def look_round(self) -> None:
        """Give up the clients that were waited for long enough."""
        self._patience.look(one for one in self.server_state.connections if isinstance(one, Guest))

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
