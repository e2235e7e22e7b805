"""What comes back of what was shown: which events are taken, and what an install makes of its user's history."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from service.errors import StoreUnavailable
from service.labels import CLOCK_SKEW_S
from service.settings import DAY_S
from service.store.log_ports import INSTALL, UNINSTALL, Displayed, EventLog, Feedback, Taken
from service.store.ports import FeatureStore, HistoryChange

AHEAD_S = 60.0
"""How far a client's clock may be ahead of the server's."""

SETTLED_AT_ONCE, BATCHES_A_TURN = 1_000, 20
IDLE_S = 30.0
PATIENCE_S = 60.0
"""How long an event that names no user waits for its impression, which another process may be holding back."""

WITHOUT_ANYONE = "it names neither a request_id nor a user_id; send at least one"
OTHER_BODY = "an event of this id was taken with another body; an id is for one event, send this one under its own"
OTHER_USER = "its user_id is not the user that its request_id was shown to; leave it out or correct it"


class Status(StrEnum):
    """What became of an event that was sent."""

    ACCEPTED = "accepted"
    DUPLICATE = "duplicate"
    LATE = "late"
    ORPHAN = "orphan"
    REJECTED = "rejected"


@dataclass(frozen=True)
class Sent:
    """One event as a client sent it; at: epoch seconds, None where the client did not say."""

    id: str
    kind: str
    app_id: str
    user_id: str | None = None
    request_id: str | None = None
    at: float | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one event, and where it was rejected, why."""

    status: Status
    reason: str | None = None


@dataclass(frozen=True)
class IntakeLimits:
    """window_s: seconds after an impression in which an event can be its label; keep_s: how old an event may be."""

    window_s: float
    keep_s: float


class Intake:
    """Takes events: what it does not reject is in the log, on disk, when `take` returns.

    flush: brings the impressions of these requests into the log, as far as this process holds them back.
    """

    def __init__(
        self,
        log: EventLog,
        *,
        clock: Callable[[], float],
        limits: IntakeLimits,
        flush: Callable[[Iterable[str]], None] = lambda _: None,
    ) -> None:
        self._log = log
        self._clock = clock
        self._limits = limits
        self._flush = flush

    def take(self, events: Sequence[Sent]) -> tuple[Outcome, ...]:
        """Judge and keep events; what became of each, in order. Raises StoreUnavailable, and then none is kept.

        An event that comes too late for its impression, or has none, is kept too: for its user's history, and because
        the impression may still be on its way. Which events are labels is decided when the log is joined.
        """
        now = round(self._clock(), 6)  # to the microsecond, as an export keeps it
        asked = {event.request_id for event in events if event.request_id is not None}
        self._flush(asked)
        displayed = self._log.displayed(asked) if asked else {}
        outcomes = [self._judged(event, displayed, now) for event in events]
        sound = [place for place, one in enumerate(outcomes) if one.status is not Status.REJECTED]
        taken = self._log.take([_feedback(events[place], now) for place in sound])
        for place, became in zip(sound, taken, strict=True):
            if became is Taken.SAME:
                outcomes[place] = Outcome(Status.DUPLICATE)
            elif became is Taken.OTHER:
                outcomes[place] = Outcome(Status.REJECTED, OTHER_BODY)
        return tuple(outcomes)

    def _judged(self, event: Sent, displayed: Mapping[str, Displayed], now: float) -> Outcome:
        """What becomes of an event unless its id is known."""
        at = now if event.at is None else event.at
        shown = displayed.get(event.request_id) if event.request_id is not None else None
        if reason := self._untimely(at, now):
            return Outcome(Status.REJECTED, reason)
        if event.request_id is None:
            return Outcome(Status.REJECTED, WITHOUT_ANYONE) if event.user_id is None else Outcome(Status.ACCEPTED)
        if shown is None:
            return Outcome(Status.ORPHAN)
        if event.user_id not in (None, shown.user_id):
            return Outcome(Status.REJECTED, OTHER_USER)
        if event.app_id not in shown.app_ids or at < shown.at - CLOCK_SKEW_S:
            return Outcome(Status.ORPHAN)
        return Outcome(Status.LATE if at > shown.at + self._limits.window_s else Status.ACCEPTED)

    def _untimely(self, at: float, now: float) -> str | None:
        if at > now + AHEAD_S:
            return f"its time is {at - now:.0f} s in the future where {AHEAD_S:.0f} s are allowed; correct the clock"
        if at < now - self._limits.keep_s:
            age, kept = (now - at) / DAY_S, self._limits.keep_s / DAY_S
            return f"it is {age:.1f} days old where {kept:.1f} are kept; send events sooner"
        return None


@dataclass(frozen=True)
class SettlerParts:
    """What a settler works with. clock: epoch seconds; consumer: its name in the log.

    turn: True where this process may settle now. One process at a time should, so that a user's changes are made in
    the order in which they were taken; the next may begin IDLE_S after the last was heard of, not before. leave: lets
    the next begin at once.
    """

    log: EventLog
    features: FeatureStore
    consumer: str
    clock: Callable[[], float]
    turn: Callable[[], bool]
    leave: Callable[[], None] = lambda: None


class Settler:
    """Makes of installs and uninstalls what they mean for users' histories: each at least once, and in order.

    Every event that was kept counts, one that is late or of no known request too: the user has the app all the same.
    """

    def __init__(self, parts: SettlerParts) -> None:
        self._parts = parts
        self._rest_until = 0.0

    def settle(self) -> None:
        """Settle what waits, BATCHES_A_TURN at most, so that a process told to end does. Raises StoreUnavailable."""
        for _ in range(BATCHES_A_TURN):
            if not self.step():
                return

    def step(self) -> int:
        """Settle what waits, a batch of it; how many events were dealt with. Raises StoreUnavailable.

        What was claimed and not settled, as the store went away, is handed out again after IDLE_S; until then nothing
        is settled, as what was taken later must not be settled before it.
        """
        parts = self._parts
        if not parts.turn() or parts.clock() < self._rest_until:
            return 0
        try:
            return self._settle_some()
        except StoreUnavailable:
            self._rest_until = parts.clock() + IDLE_S
            raise

    def leave(self) -> None:
        """Let another settle at once, but for what is claimed here, which it would be handed too late.

        Raises StoreUnavailable.
        """
        if self._parts.clock() >= self._rest_until:
            self._parts.leave()

    def _settle_some(self) -> int:
        parts = self._parts
        claimed = parts.log.claim(parts.consumer, count=SETTLED_AT_ONCE, idle_s=IDLE_S)
        moving = [event for event in claimed if event.kind in (INSTALL, UNINSTALL)]
        users = self._users_of(moving)
        parts.features.change_history(
            HistoryChange(users[event.id], event.app_id, installed=event.kind == INSTALL)
            for event in moving
            if event.id in users
        )
        waiting = {event.id for event in moving if event.id not in users and self._may_be_known_yet(event)}
        settled = [event.id for event in claimed if event.id not in waiting]
        if settled:
            parts.log.settle(settled)
        return len(settled)

    def _users_of(self, events: Sequence[Feedback]) -> dict[str, str]:
        """The user of each event by its id: the one it names, else the one it was shown to, if that is known."""
        asked = {event.request_id for event in events if event.user_id is None and event.request_id is not None}
        displayed = self._parts.log.displayed(asked) if asked else {}
        users = {event.id: event.user_id for event in events if event.user_id is not None}
        shown_to = {event.id: displayed.get(event.request_id or "") for event in events}
        return {event_id: shown.user_id for event_id, shown in shown_to.items() if shown} | users

    def _may_be_known_yet(self, event: Feedback) -> bool:
        return self._parts.clock() - event.received_at < PATIENCE_S


def _feedback(event: Sent, now: float) -> Feedback:
    return Feedback(
        id=event.id,
        kind=event.kind,
        at=now if event.at is None else event.at,
        received_at=now,
        app_id=event.app_id,
        user_id=event.user_id,
        request_id=event.request_id,
        dated=event.at is not None,
    )
