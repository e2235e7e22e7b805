"""The contract of RegistryIndex, on every backend."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest

from service.errors import IllegalTransition, UnknownVersion, UnreasonedForce, VersionExists
from service.states import TRANSITIONS, State
from service.store.ports import HistoryEntry, Note, RegistryIndex
from tests.service.clock import Clock
from tests.service.store.entries import NEW, NOTE, OLD, entry


def test_an_entry_comes_back_as_it_was_added(index: RegistryIndex) -> None:
    index.add(entry(OLD), note=NOTE)

    assert index.get(OLD) == entry(OLD)
    assert index.get(NEW) is None


def test_a_version_is_added_once(index: RegistryIndex) -> None:
    index.add(entry(OLD), note=NOTE)

    with pytest.raises(VersionExists, match=OLD):
        index.add(entry(OLD), note=NOTE)


def test_versions_are_listed_oldest_first(index: RegistryIndex) -> None:
    index.add(entry(NEW), note=NOTE)
    index.add(entry(OLD), note=NOTE)

    assert [known.version for known in index.all()] == [OLD, NEW]


@pytest.mark.parametrize("was", list(State))
def test_moves_are_those_of_the_table(index: RegistryIndex, was: State) -> None:
    for number, to in enumerate(State):
        version = f"20261101T000000Z-{number:06x}"
        if was is State.LIVE and number:
            continue  # there is but one live version, and it leaves only by another taking its place
        index.add(entry(version, was), note=NOTE)

        if to in TRANSITIONS[was] and was is not State.LIVE:
            index.move(version, to, note=NOTE)
        else:
            with pytest.raises(IllegalTransition, match=version):
                index.move(version, to, note=NOTE)


def test_a_live_version_cannot_be_retired_without_another_in_its_place(index: RegistryIndex) -> None:
    index.add(entry(OLD, State.LIVE), note=NOTE)

    with pytest.raises(IllegalTransition):
        index.move(OLD, State.RETIRED, note=NOTE)

    assert index.live() == OLD


def test_a_version_that_is_not_there_cannot_move(index: RegistryIndex) -> None:
    with pytest.raises(UnknownVersion, match=NEW):
        index.move(NEW, State.PASSED, note=NOTE)


def test_nothing_is_live_at_first(index: RegistryIndex) -> None:
    index.add(entry(OLD), note=NOTE)

    assert index.live() is None


def test_going_live_retires_the_former_live_version(index: RegistryIndex) -> None:
    index.add(entry(OLD, State.LIVE), note=NOTE)
    index.add(entry(NEW, State.PASSED), note=NOTE)

    index.move(NEW, State.LIVE, note=NOTE)

    assert index.live() == NEW
    assert [known.state for known in index.all()] == [State.RETIRED, State.LIVE]


def test_the_history_tells_who_moved_what_when_and_why(index: RegistryIndex, clock: Clock) -> None:
    index.add(entry(OLD, State.PASSED), note=Note("trainer", "trained"))
    clock.advance(60)
    index.move(OLD, State.LIVE, note=Note("ana", "the first one"))

    assert index.history() == (
        HistoryEntry(clock.now - 60, OLD, None, State.PASSED, "trainer", "trained", False),
        HistoryEntry(clock.now, OLD, State.PASSED, State.LIVE, "ana", "the first one", False),
    )


def test_retirement_stands_in_the_history_too(index: RegistryIndex) -> None:
    index.add(entry(OLD, State.LIVE), note=NOTE)
    index.add(entry(NEW, State.PASSED), note=NOTE)
    index.move(NEW, State.LIVE, note=NOTE)

    retirement, promotion = index.history()[-2:]

    assert (retirement.version, retirement.to) == (OLD, State.RETIRED)
    assert (promotion.version, promotion.to) == (NEW, State.LIVE)
    assert NEW in retirement.why


def test_a_refused_move_leaves_no_trace(index: RegistryIndex) -> None:
    index.add(entry(OLD, State.REJECTED), note=NOTE)
    before = index.history()

    with pytest.raises(IllegalTransition, match="rejected and cannot become live"):
        index.move(OLD, State.LIVE, note=NOTE)

    assert index.history() == before
    assert index.get(OLD) == entry(OLD, State.REJECTED)


def test_a_rejected_version_goes_live_by_force_and_the_history_says_so(index: RegistryIndex) -> None:
    index.add(entry(OLD, State.REJECTED), note=NOTE)

    index.move(OLD, State.LIVE, note=Note("ana", "the holdout is known to be broken", force=True))

    assert index.live() == OLD
    assert (index.history()[-1].forced, index.history()[-1].why) == (True, "the holdout is known to be broken")


def test_force_does_not_skip_the_gate(index: RegistryIndex) -> None:
    index.add(entry(OLD), note=NOTE)

    with pytest.raises(IllegalTransition):
        index.move(OLD, State.LIVE, note=Note("ana", "in a hurry", force=True))


def test_force_needs_a_reason() -> None:
    with pytest.raises(UnreasonedForce, match="reason"):
        Note("ana", "  ", force=True)


def test_a_report_is_kept_through_later_moves(index: RegistryIndex) -> None:
    index.add(entry(OLD), note=NOTE)
    index.move(OLD, State.PASSED, note=NOTE, report='{"passed": true}')
    index.move(OLD, State.LIVE, note=NOTE)

    known = index.get(OLD)

    assert known is not None
    assert known.report == '{"passed": true}'


def test_many_promotes_at_once_leave_one_version_live(index: RegistryIndex) -> None:
    versions = [f"20261101T000000Z-{number:06x}" for number in range(8)]
    for version in versions:
        index.add(entry(version, State.PASSED), note=NOTE)
    barrier = Barrier(len(versions))

    def promote(version: str) -> None:
        barrier.wait()
        index.move(version, State.LIVE, note=NOTE)

    with ThreadPoolExecutor(len(versions)) as threads:
        list(threads.map(promote, versions))

    states = [known.state for known in index.all()]
    assert sorted(states) == [State.LIVE] + [State.RETIRED] * 7
    assert index.history()[-1].version == index.live()


def test_a_retired_version_that_is_judged_again_stays_retired_with_its_new_report(index: RegistryIndex) -> None:
    index.add(entry(OLD, State.LIVE), note=NOTE)
    index.add(entry(NEW, State.PASSED), note=NOTE)
    index.move(NEW, State.LIVE, note=NOTE)

    index.move(OLD, State.RETIRED, note=NOTE, report="the newest")

    known = index.get(OLD)
    assert known is not None
    assert (known.state, known.report, index.live()) == (State.RETIRED, "the newest", NEW)
    assert [(one.was, one.to) for one in index.history()][-1] == (State.RETIRED, State.RETIRED)
    with pytest.raises(IllegalTransition):
        index.move(NEW, State.RETIRED, note=NOTE)
