"""The thread beside the requests: it follows the store while the process serves."""

import logging
from concurrent.futures import Executor
from threading import Event, Thread

from service.follower import Follower

log = logging.getLogger(__name__)


class Background:
    """Starts and stops a follower; `executor` is where the follower prepares versions."""

    def __init__(self, follower: Follower, executor: Executor) -> None:
        self._follower = follower
        self._executor = executor
        self._stop = Event()
        self._thread = Thread(target=follower.run, args=(self._stop,), name="follower", daemon=True)

    def start(self) -> None:
        """Take the live version, then follow. Where it cannot be taken, say so and go on trying."""
        if error := self._executor.submit(self._follower.start).exception():
            log.error("the live version could not be taken at the start: %s", error, exc_info=error)
        self._thread.start()

    def stop(self) -> None:
        """Give the lease back and end the thread. A version still being prepared is let go."""
        self._stop.set()
        self._thread.join()
        self._executor.shutdown(wait=False, cancel_futures=True)
