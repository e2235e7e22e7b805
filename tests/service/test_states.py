from itertools import pairwise

import pytest

from service.errors import IllegalTransition
from service.states import SENTENCES, TRANSITIONS, State, check_transition


@pytest.mark.parametrize("state", list(State))
def test_every_state_has_a_sentence_and_a_way_on(state: State) -> None:
    assert SENTENCES[state] == state.sentence
    assert TRANSITIONS[state]


def test_a_version_may_go_from_training_through_the_gate_to_live_and_back() -> None:
    life = [State.TRAINING, State.CHALLENGER, State.PASSED, State.SHADOW, State.CANARY, State.LIVE]

    for was, to in pairwise(life):
        check_transition("v", was, to)
    check_transition("v", State.RETIRED, State.LIVE)


def test_a_refusal_names_the_version_its_state_and_what_it_may_become() -> None:
    with pytest.raises(IllegalTransition) as refusal:
        check_transition("v", State.CHALLENGER, State.LIVE)

    assert str(refusal.value) == (
        "version 'v' is challenger and cannot become live; from challenger it can become failed, passed, rejected"
    )
