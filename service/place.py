"""A worker's place at the door: a pair of Unix sockets, the words that are said over it, and what was handed over."""

import fcntl
import os
import socket
import struct
import termios
from contextlib import suppress

FRESH, RETURNED = b"f", b"r"
"""To a worker, each with a connection: one just accepted, and one that another worker had."""

GIVE, KNOCK = b"g", b"k"
"""To a worker: give one connection back; and say that you are there."""

READY, LEAVING, CLOSED = b"+", b"-", b"."
"""From a worker: it takes connections; it takes none any more; one that it had is over."""

EMPTY, STOCKED = b"0", b"1"
"""From a worker, which is taken to be stocked unless it says otherwise: it has nothing yet to answer with; it has."""

BACK = b"<"
"""From a worker, with a connection: this one is for another worker."""

WORDS_AT_ONCE, SOCKETS_AT_ONCE = 4096, 16


class Place:
    """A worker as the doorman sees it; ended: a descriptor that becomes readable when the worker's process ends.

    count: the connections that it has or is about to take; stocked: whether it has something to answer with. Both ends
    of the pair are held: what the worker has not taken can so be read back, which the kernel does for one side or the
    other and never for both.
    """

    def __init__(self, pair: tuple[socket.socket, socket.socket], ended: int) -> None:
        self.ours, self._theirs = pair
        self.ended = ended
        self.count = 0
        self.turn = 0
        self.open = self.stuck = False
        self.stocked = True
        self._sent = self._sent_before = 0
        for end in pair:
            end.setblocking(False)

    def hand(self, guest: socket.socket, kind: bytes) -> None:
        """Pass a connection on and let go of it. Raises OSError where it cannot be taken now; it is kept then."""
        socket.send_fds(self.ours, [kind], [guest.fileno()])
        guest.close()
        self.count += 1
        self._sent += 1

    def say(self, words: bytes) -> None:
        """Send words, as far as there is room for them."""
        with suppress(OSError):
            self._sent += self.ours.send(words)

    def hear(self) -> tuple[bytes, list[socket.socket]]:
        """What the worker has said since, and the connections that it gave back."""
        try:
            words, given, _, _ = socket.recv_fds(self.ours, WORDS_AT_ONCE, SOCKETS_AT_ONCE)
        except BlockingIOError:
            return b"", []
        self.count -= words.count(CLOSED) + words.count(BACK)
        if EMPTY in words or STOCKED in words:
            self.stocked = words.rfind(STOCKED) > words.rfind(EMPTY)
        return words, [socket.socket(fileno=one) for one in given]

    @property
    def untaken(self) -> int:
        """How much of what was sent the worker has not taken yet."""
        (waiting,) = struct.unpack("i", fcntl.ioctl(self._theirs, termios.FIONREAD, bytes(4)))
        return int(waiting)

    def look(self) -> bool:
        """Note whether something lies there untaken since the last look; True where that is new."""
        untaken, was = self.untaken, self.stuck
        self.stuck = untaken > 0 and (was or self._sent - untaken < self._sent_before)
        self._sent_before = self._sent
        return self.stuck and not was

    def take_back(self) -> list[tuple[socket.socket, bytes]]:
        """The connections that the worker has not taken, with what each of them is."""
        found = []
        with suppress(BlockingIOError):
            while True:
                words, given, _, _ = socket.recv_fds(self._theirs, WORDS_AT_ONCE, SOCKETS_AT_ONCE)
                self._sent -= len(words)
                kinds = [bytes([one]) for one in words if bytes([one]) in (FRESH, RETURNED)]
                self.count -= len(kinds)
                found += [(socket.socket(fileno=one), kind) for one, kind in zip(given, kinds, strict=False)]
                self._sent_before = min(self._sent_before, self._sent)
        return found

    def close(self) -> None:
        """Let go of the pair; what the worker has not taken is still its own to take."""
        self.ours.close()
        self._theirs.close()
        os.close(self.ended)
