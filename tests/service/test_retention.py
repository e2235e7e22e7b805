"""Old bundles go, and none that is needed."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from model.bundle import list_bundles
from service.container import Container
from service.lifecycle import promote_version, roll_back
from service.retention import collect
from service.store.ports import Note
from tests.service.store_front import LIVE, MISSING_ITS_GOLDEN, PASSED, REJECTED

NOTE = Note("test", "because")


def collected(container: Container, *, keep: int) -> set[str]:
    return set(collect(container.registry, container.coordinator, keep=keep))


def held(container: Container) -> set[str]:
    return {manifest.version for manifest in list_bundles(container.home.bundles)}


def test_all_but_the_newest_go_and_live_stays_however_old(container: Container) -> None:
    newest = container.registry.versions()[-1].version

    gone = collected(container, keep=1)

    assert {PASSED, REJECTED} <= gone
    assert held(container) == {LIVE, MISSING_ITS_GOLDEN, newest}


def test_the_version_that_a_promote_takes_stays(container: Container) -> None:
    next_one = container.registry.newest_passed()

    assert next_one not in collected(container, keep=1)
    assert container.registry.newest_passed() == next_one


def test_two_that_collect_at_once_do_not_stumble_over_each_other(container: Container) -> None:
    def collect_one(_: int) -> set[str]:
        return collected(container, keep=1)

    with ThreadPoolExecutor(4) as threads:
        gone = set().union(*threads.map(collect_one, range(4)))

    assert {PASSED, REJECTED} <= gone
    assert held(container).isdisjoint(gone)


def test_what_a_rollback_takes_stays(container: Container) -> None:
    promote_version(container, PASSED, note=NOTE)

    assert LIVE not in collected(container, keep=1)
    assert roll_back(container, note=NOTE).version == LIVE


def test_what_a_process_serves_stays(container: Container) -> None:
    container.background.start()
    try:
        promote_version(container, PASSED, note=NOTE)
        assert PASSED not in collected(container, keep=1)
    finally:
        container.background.stop()


def test_the_registry_keeps_the_entry_of_what_is_gone(container: Container) -> None:
    report = container.registry.get(REJECTED).report

    assert REJECTED in collected(container, keep=1)
    assert container.registry.get(REJECTED).report == report


def test_nothing_goes_while_there_are_few(container: Container, home: Path) -> None:
    before = sorted(home.joinpath("bundles").iterdir())

    assert collected(container, keep=50) == set()
    assert sorted(home.joinpath("bundles").iterdir()) == before
