"""Waiting for word on a channel, so that a change is noticed when it is made and not when somebody looks next."""

from collections.abc import Callable
from threading import Lock

from redis.client import PubSub

from service.errors import StoreUnavailable
from service.store.redis_client import RedisLink

MOST_AT_ONCE = 1_000
"""Words taken in by one wait: whoever waited looks once, however many there were."""


class News:
    """One subscription, kept from one wait to the next so that what is told between two is not missed.

    pause: waits for so many seconds; clock: monotonic seconds.
    """

    def __init__(
        self, link: RedisLink, channel: str, *, pause: Callable[[float], object], clock: Callable[[], float]
    ) -> None:
        self._link, self._channel = link, channel
        self._pause, self._clock = pause, clock
        self._lock = Lock()
        self._subscription: PubSub | None = None

    def wait(self, timeout_s: float) -> None:
        """Return at the first word, at the latest after `timeout_s`; raises nothing.

        The wait in which a subscription begins ends with that: what was told before it is found out by looking.
        """
        until = self._clock() + timeout_s
        if not self._lock.acquire(timeout=timeout_s):
            return
        try:
            self._listen(until)
        except StoreUnavailable:
            self._subscription = None
            self._pause(max(0.0, until - self._clock()))
        finally:
            self._lock.release()

    def _listen(self, until: float) -> None:
        with self._link.reaching() as client:
            if self._subscription is None:
                self._subscription = client.pubsub()
                self._subscription.subscribe(self._channel)
            while (left_s := until - self._clock()) > 0:
                if self._subscription.get_message(timeout=left_s):
                    self._take_in(self._subscription)
                    return

    def _take_in(self, subscription: PubSub) -> None:
        for _ in range(MOST_AT_ONCE):
            if not subscription.get_message(timeout=0.0):
                return
