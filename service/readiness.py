"""Whether this process should be sent requests."""

from service.engine import Engine

SERVES = "serves"
"""In the state of the application's lifespan: says whether a version serves. A server without it always has answers."""


class Readiness:
    """Ready from the first warm version until the process is told to end; a store that is away changes nothing."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._draining = False

    def drain(self) -> None:
        """From now on: finish what is in flight and take nothing new. Safe to call from a signal handler."""
        self._draining = True

    @property
    def draining(self) -> bool:
        """True from the moment the process was told to end."""
        return self._draining

    @property
    def obstacle(self) -> str | None:
        """Why the process is not ready, None where it is."""
        if self._draining:
            return "the process is ending and finishes what is in flight"
        if self._engine.version is None:
            return (
                "no version is loaded yet; where none is live train one and `appshelf promote VERSION`, "
                "where one is the log says why it cannot be loaded"
            )
        return None
