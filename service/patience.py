"""How long clients are waited for in the middle of something: by a look now and then, not by a timer a request."""

from collections.abc import Callable, Iterable
from typing import Protocol

Owed = tuple[object, int]
"""What a client alone can bring on, and of which request: it has moved where either is another than before."""


class Client(Protocol):
    """The client of a connection."""

    @property
    def owed(self) -> Owed | None:
        """What it is waited for without a timer; None for nothing."""

    def give_up(self) -> None:
        """Wait no longer."""


class Patience:
    """Waits for each client for within_s seconds, and for as long as from one look to the next. clock: monotonic."""

    def __init__(self, clock: Callable[[], float], *, within_s: float) -> None:
        self._clock = clock
        self._within_s = within_s
        self._seen: dict[Client, tuple[Owed, float]] = {}

    def look(self, clients: Iterable[Client]) -> None:
        """Give up those that have owed the same for long enough."""
        now, former, self._seen = self._clock(), self._seen, {}
        late = []
        for client in clients:
            if owed := client.owed:
                was, since = former.get(client, (owed, now))
                if was[0] is not owed[0] or was[1] != owed[1]:
                    since = now
                self._seen[client] = owed, since
                if now - since >= self._within_s:
                    late.append(client)
        for client in late:
            client.give_up()
