"""Who lets connections in: accepted by the supervisor, each handed to the worker that has the fewest.

Workers that accept from one socket leave it to chance who gets a connection, and one often gets all of them. Here each
worker is at the other end of a pair of Unix sockets, over which an accepted socket is passed on as it is (SCM_RIGHTS).
"""

import itertools
import logging
import selectors
import socket
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread

from service.place import FRESH, GIVE, KNOCK, LEAVING, READY, RETURNED, WORDS_AT_ONCE, Place

BACKLOG = 2048
ACCEPTED_AT_ONCE = 64
LOOK_EVERY_S = 1.0
REST_S = 0.05

log = logging.getLogger(__name__)


class Doorman:
    """Accepts from `listener` in a thread of its own, from the first worker that is ready on.

    room: the most connections that one worker is given; past it, and while no worker is ready, they wait in the
    backlog. A worker that takes nothing for LOOK_EVERY_S, or dies, loses its place, and what it has not taken goes to
    others. Where one worker has more than another it is asked for connections that are between two requests, which
    their clients do not notice; so they even out after a restart. A worker that has nothing to answer with, as it could
    not load the live version, is given connections only while no other has, and is asked for those that it got.
    clock: monotonic seconds.
    """

    def __init__(self, listener: socket.socket, *, room: int, clock: Callable[[], float]) -> None:
        self._listener = listener
        self._room = room
        self._clock = clock
        self._places: list[Place] = []
        self._waiting: deque[tuple[socket.socket, bytes]] = deque()
        self._turns = itertools.count(1)
        self._looked = self._rests_until = clock()
        self._trouble: int | None = None
        self._listening = self._accepting = self._closed = False
        self._arrivals: SimpleQueue[Place | None] = SimpleQueue()
        self._bell, self._ringing = socket.socketpair()
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._bell, selectors.EVENT_READ, self._admit)
        self._thread = Thread(target=self._run, name="doorman", daemon=True)
        listener.setblocking(False)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    @property
    def alive(self) -> bool:
        """False once it has ended, which it does by itself only where it is broken."""
        return self._thread.is_alive()

    def seat(self, place: Place) -> None:
        """Reckon with a worker from now on; it is given connections when it says that it is ready."""
        self._ring(place)

    def close(self) -> None:
        """Accept nothing more and end; workers keep what they have and what was handed to them.

        Closed is what waits here for a worker, and what a worker that leaves from now on has not taken.
        """
        self._ring(None)
        if self._thread.ident is not None:
            self._thread.join()

    def _ring(self, arrival: Place | None) -> None:
        self._arrivals.put(arrival)
        with suppress(OSError):  # where it has ended
            self._ringing.send(KNOCK)

    def _run(self) -> None:
        while not self._closed:
            for key, _ in self._selector.select(self._patience()):
                key.data()
            if self._clock() >= self._looked + LOOK_EVERY_S:
                self._look_round()
            self._show_in()
        for place in self._places:
            place.close()
        for guest, _ in self._waiting:
            guest.close()
        for one in (self._listener, self._bell, self._ringing, self._selector):
            one.close()

    def _patience(self) -> float | None:
        """Seconds until something is to be done though nothing is said; None where nothing is."""
        now = self._clock()
        if self._rests_until > now:
            return self._rests_until - now
        unsettled = any(place.open and place.untaken for place in self._places) or self._uneven() or self._misplaced()
        return max(0.0, self._looked + LOOK_EVERY_S - now) if unsettled else None

    def _admit(self) -> None:
        self._bell.recv(WORDS_AT_ONCE)
        while not self._arrivals.empty():
            place = self._arrivals.get()
            if place is None:
                self._closed = True
                return
            self._places.append(place)
            self._selector.register(place.ours, selectors.EVENT_READ, lambda place=place: self._listen_to(place))
            self._selector.register(place.ended, selectors.EVENT_READ, lambda place=place: self._see_off(place))

    def _listen_to(self, place: Place) -> bool:
        """Do as the worker says; False where it said nothing, or was seen off a moment ago."""
        if place not in self._places:
            return False
        words, given = place.hear()
        self._waiting += [(guest, RETURNED) for guest in given]
        if READY in words:
            place.open, place.stuck = True, False
        if LEAVING in words:
            place.open = False
            self._waiting += place.take_back()
        return bool(words)

    def _see_off(self, place: Place) -> None:
        """The worker has ended: hear its last words, and let go of its place."""
        while self._listen_to(place):
            pass
        self._waiting += place.take_back()
        self._selector.unregister(place.ours)
        self._selector.unregister(place.ended)
        self._places.remove(place)
        place.close()

    def _look_round(self) -> None:
        """Find who is stuck, and even out."""
        self._looked = self._clock()
        for place in self._places:
            if place.open and place.look():
                log.warning("a worker has taken no connection for %g s and gets none until it does", LOOK_EVERY_S)
                place.say(KNOCK)
        for place in self._places:
            if place.stuck and self._next():
                self._waiting += place.take_back()
                place.say(KNOCK)
        for place in self._misplaced():
            place.say(GIVE * place.count)
        if uneven := self._uneven():
            most, excess = uneven
            most.say(GIVE * excess)

    def _able(self) -> list[Place]:
        """Those who can answer, or where nobody can, all who are there."""
        there = self._there()
        return [place for place in there if place.stocked] or there

    def _misplaced(self) -> list[Place]:
        """Those who have connections and nothing to answer with, where others have."""
        able = self._able()
        return [place for place in self._there() if place.count and place not in able]

    def _there(self) -> list[Place]:
        return [place for place in self._places if place.open and not place.stuck]

    def _uneven(self) -> tuple[Place, int] | None:
        """The worker that has the most, and how many more than its share over the one that has the fewest."""
        able = self._able()
        counts = [place.count for place in able]
        if not able or max(counts) - min(counts) < 2:
            return None
        return able[counts.index(max(counts))], (max(counts) - min(counts)) // 2

    def _show_in(self) -> None:
        """Hand on those that wait here, then those in the backlog, for as long as there is somebody to take them."""
        while self._waiting and (place := self._next()):
            self._hand(place, self._waiting.popleft())
        wanted = self._next() is not None
        if wanted and not self._listening:
            self._listening = self._begins_to_listen()
            if not self._listening:
                return
        if wanted and not self._accepting:
            self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        elif self._accepting and not wanted:
            self._selector.unregister(self._listener)
        self._accepting = wanted

    def _begins_to_listen(self) -> bool:
        """Where two servers were bound to one address before either listened, only the first can; the other ends."""
        try:
            self._listener.listen(BACKLOG)
        except OSError as error:
            address = self._listener.getsockname()
            log.critical("%s port %d: %s; give another with --port", *address[:2], error.strerror)
            self._closed = True
        return not self._closed

    def _next(self) -> Place | None:
        """Who is to have the next connection: the one with the fewest, and of those the one that waited longest."""
        if self._rests_until > self._clock():
            return None
        able = [one for one in self._able() if one.count < self._room]
        return min(able, key=lambda one: (one.count, one.turn), default=None)

    def _accept(self) -> None:
        for _ in range(ACCEPTED_AT_ONCE):
            if self._waiting or not (place := self._next()):
                return
            try:
                guest, _ = self._listener.accept()
            except BlockingIOError:
                return
            except ConnectionError:  # it left while it waited
                continue
            except OSError as error:
                self._rest(error)
                return
            self._hand(place, (guest, FRESH))
            self._trouble = None

    def _hand(self, place: Place, arrived: tuple[socket.socket, bytes]) -> None:
        guest, kind = arrived
        try:
            place.hand(guest, kind)
            place.turn = next(self._turns)
        except OSError as error:
            self._waiting.appendleft(arrived)
            self._rest(error)

    def _rest(self, error: OSError) -> None:
        """Out of descriptors or memory: leave the backlog alone for a moment, since it would be reported at once."""
        self._rests_until = self._clock() + REST_S
        if error.errno != self._trouble:
            log.warning("connections wait: %s", error)
        self._trouble = error.errno
