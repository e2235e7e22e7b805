"""A clock that goes only when a test says so."""


class Clock:
    """Epoch seconds from `now` on."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds
