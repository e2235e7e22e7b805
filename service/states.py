"""The states of a version and the table of moves between them."""

from collections.abc import Mapping
from enum import StrEnum

from service.errors import IllegalTransition


class State(StrEnum):
    """Where a version stands between training and retirement."""

    TRAINING = "training"
    CHALLENGER = "challenger"
    PASSED = "passed"
    REJECTED = "rejected"
    FAILED = "failed"
    SHADOW = "shadow"
    CANARY = "canary"
    LIVE = "live"
    RETIRED = "retired"

    @property
    def sentence(self) -> str:
        """What the state means, for a person."""
        return SENTENCES[self]


SENTENCES: Mapping[State, str] = {
    State.TRAINING: "It is being trained.",
    State.CHALLENGER: "It is trained and waits for the gate's judgement.",
    State.PASSED: "The gate let it through; it may be promoted.",
    State.REJECTED: "The gate refused it; it goes live only by force, with a reason.",
    State.FAILED: "Its training or its judgement broke off.",
    State.SHADOW: "It scores live requests, and its answers are thrown away.",
    State.CANARY: "It answers a small share of live requests.",
    State.LIVE: "It answers requests.",
    State.RETIRED: "It was live, and another version took its place.",
}

TRANSITIONS: Mapping[State, frozenset[State]] = {
    State.TRAINING: frozenset({State.CHALLENGER, State.FAILED}),
    State.CHALLENGER: frozenset({State.PASSED, State.REJECTED, State.FAILED}),
    State.PASSED: frozenset({State.SHADOW, State.CANARY, State.LIVE, State.CHALLENGER}),
    State.REJECTED: frozenset({State.CHALLENGER}),
    State.FAILED: frozenset({State.CHALLENGER}),
    State.SHADOW: frozenset({State.CANARY, State.LIVE, State.CHALLENGER}),
    State.CANARY: frozenset({State.LIVE, State.CHALLENGER}),
    State.LIVE: frozenset({State.RETIRED}),
    State.RETIRED: frozenset({State.LIVE, State.RETIRED}),
}
"""From each state to those that may follow. Back to challenger means judged again, as when live has moved since.

A live version retires only by another one going live, so that there is always one to serve. A retired one that is
judged again gets its new report and stays retired, so that no verdict takes the way back away.
"""

FORCED: Mapping[State, frozenset[State]] = {State.REJECTED: frozenset({State.LIVE})}
"""What may follow besides, by force and with a reason."""


def check_transition(version: str, was: State, to: State, *, force: bool = False) -> None:
    """Raise IllegalTransition unless `version` may be moved from `was` to `to`."""
    allowed = TRANSITIONS[was] | (FORCED.get(was, frozenset()) if force else frozenset())
    if to not in allowed or was is State.LIVE:
        raise IllegalTransition(version, was=was, to=to, allowed=allowed)
