import pytest

from service.engine import Engine
from service.errors import NoLiveVersion
from tests.service.fleet import live


def test_nothing_is_live_before_the_first_swap() -> None:
    engine = Engine()

    assert engine.version is None
    with pytest.raises(NoLiveVersion, match="appshelf promote"):
        engine.live()


def test_a_swap_serves_the_new_version_from_the_next_request_on() -> None:
    engine = Engine()
    engine.swap(live("old"))
    in_flight = engine.live()

    engine.swap(live("new"))

    assert engine.live().version == engine.version == "new"
    assert in_flight.version == "old"
