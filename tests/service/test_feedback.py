"""Taking events: what is accepted, late, orphaned, known or refused, and what installs make of histories."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from service.errors import StoreUnavailable
from service.feedback import IDLE_S, PATIENCE_S, Intake, IntakeLimits, Sent, Settler, SettlerParts, Status
from service.home import Home
from service.settings import DAY_S
from service.store.backend import Backend
from service.store.log_ports import Impression, Shown
from service.store.ports import HistoryChange, UserRecord
from service.store.sqlite_backend import open_sqlite
from tests.service.clock import Clock

WINDOW_S, KEPT_DAYS = 3600.0, 90.0
EVER = (0.0, 1e12)


@pytest.fixture
def clock() -> Clock:
    return Clock(1_700_000_000.0)


@pytest.fixture
def backend(tmp_path: Path, clock: Clock) -> Backend:
    """A log in which request r1 showed com.x and com.y to ana, now."""
    backend = open_sqlite(Home(tmp_path), clock)
    items = tuple(Shown(app_id, place, 0.5, {}, 0) for place, app_id in enumerate(("com.x", "com.y"), 1))
    backend.log.show([Impression("r1", clock(), "v", "ana", {}, {}, {}, items)])
    return backend


@pytest.fixture
def intake(backend: Backend, clock: Clock) -> Intake:
    return Intake(backend.log, clock=clock, limits=IntakeLimits(WINDOW_S, KEPT_DAYS * DAY_S))


def install(event_id: str = "e1", **other: object) -> Sent:
    return replace(Sent(event_id, "install", "com.x", "ana", "r1"), **other)  # type: ignore[arg-type]  # of Sent's own


def statuses(intake: Intake, *events: Sent) -> list[str]:
    return [str(outcome.status) for outcome in intake.take(events)]


def reason(intake: Intake, event: Sent) -> str:
    (outcome,) = intake.take([event])
    assert outcome.status is Status.REJECTED
    assert outcome.reason
    return outcome.reason


def kept(backend: Backend) -> list[str]:
    return [one.id for one in backend.log.feedback(*EVER)]


def test_an_event_for_what_was_shown_is_accepted(intake: Intake, backend: Backend) -> None:
    assert statuses(intake, install(), install("e2", kind="click", app_id="com.y", user_id=None)) == ["accepted"] * 2
    assert kept(backend) == ["e1", "e2"]


def test_an_event_without_a_request_is_accepted_for_its_users_history(intake: Intake) -> None:
    assert statuses(intake, install(request_id=None, app_id="com.never_shown")) == ["accepted"]


def test_an_event_of_nobody_is_rejected(intake: Intake, backend: Backend) -> None:
    assert "user_id" in reason(intake, install(request_id=None, user_id=None))
    assert kept(backend) == []


@pytest.mark.parametrize(
    "orphan",
    [install(request_id="r0"), install(app_id="com.not_shown"), install(request_id="r0", user_id=None)],
)
def test_an_event_for_an_unknown_request_or_an_app_not_shown_is_an_orphan_and_kept(
    intake: Intake, backend: Backend, orphan: Sent
) -> None:
    assert statuses(intake, orphan) == ["orphan"]
    assert kept(backend) == ["e1"]


def test_an_event_long_before_its_impression_is_no_answer_to_it(intake: Intake, clock: Clock) -> None:
    assert statuses(intake, install("e1", at=clock() - 6), install("e2", at=clock() - 4)) == ["orphan", "accepted"]


def test_an_event_after_the_window_is_late_and_kept(intake: Intake, backend: Backend, clock: Clock) -> None:
    shown_at = clock()
    clock.advance(2 * WINDOW_S)
    within, after = shown_at + WINDOW_S, shown_at + WINDOW_S + 1
    assert statuses(intake, install("e1", at=within), install("e2", at=after), install("e3")) == [
        "accepted",
        "late",
        "late",
    ]
    assert len(kept(backend)) == 3


def test_an_event_sent_again_is_a_duplicate_whatever_it_was_at_first(intake: Intake, clock: Clock) -> None:
    late, orphan = install("late", at=clock()), install("orphan", request_id="r0")
    statuses(intake, install(), late, orphan)
    clock.advance(2 * WINDOW_S)
    assert statuses(intake, install(), late, orphan) == ["duplicate"] * 3


def test_an_event_twice_in_one_batch_counts_once(intake: Intake, backend: Backend) -> None:
    assert statuses(intake, install(), install()) == ["accepted", "duplicate"]
    assert kept(backend) == ["e1"]


def test_the_id_of_an_event_with_another_body_is_rejected_saying_so(intake: Intake, backend: Backend) -> None:
    statuses(intake, install())
    assert "another body" in reason(intake, install(kind="click"))
    assert statuses(intake, install("e2"), install("e2", app_id="com.y")) == ["accepted", "rejected"]
    assert [one.kind for one in backend.log.feedback(*EVER)] == ["install", "install"]


def test_an_event_of_another_user_than_it_was_shown_to_is_rejected(intake: Intake, backend: Backend) -> None:
    assert "user_id" in reason(intake, install(user_id="bob"))
    assert kept(backend) == []


def test_an_event_in_the_future_is_rejected_but_for_clocks_that_differ_a_little(intake: Intake, clock: Clock) -> None:
    assert statuses(intake, install(at=clock() + 60)) == ["accepted"]
    assert "future" in reason(intake, install("e2", at=clock() + 61))


def test_an_event_years_old_is_rejected(intake: Intake, clock: Clock) -> None:
    assert statuses(intake, install(at=clock() - KEPT_DAYS * DAY_S)) == ["orphan"]
    assert "730.0 days old where 90.0 are kept" in reason(intake, install("e2", at=clock() - 2 * 365 * DAY_S))


def test_an_event_without_a_time_is_of_now(intake: Intake, backend: Backend, clock: Clock) -> None:
    clock.advance(5)
    statuses(intake, install())
    (event,) = backend.log.feedback(*EVER)
    assert (event.at, event.received_at, event.dated) == (clock(), clock(), False)


def test_one_bad_event_costs_the_others_nothing_and_each_has_its_own_result(intake: Intake, backend: Backend) -> None:
    batch = [install("e1"), install("e2", user_id="bob"), install("e3", request_id="r0"), install("e1")]
    assert statuses(intake, *batch) == ["accepted", "rejected", "orphan", "duplicate"]
    assert kept(backend) == ["e1", "e3"]


def test_ten_thousand_events_are_taken_at_once(intake: Intake, backend: Backend) -> None:
    batch = [install(f"e{number}", request_id=f"r{number % 500}") for number in range(10_000)]
    told = statuses(intake, *batch)
    assert (told.count("accepted"), told.count("orphan")) == (20, 9_980)
    assert backend.log.counts().feedback == 10_000


def test_what_this_process_holds_back_is_written_before_events_are_judged(backend: Backend, clock: Clock) -> None:
    asked: list[str] = []
    limits = IntakeLimits(WINDOW_S, KEPT_DAYS * DAY_S)
    Intake(backend.log, clock=clock, limits=limits, flush=asked.extend).take([install(), install("e2")])
    assert asked == ["r1"]


class Ledger:
    """A feature store that notes what it is asked to change, and may be away."""

    def __init__(self, backend: Backend) -> None:
        self._features = backend.features
        self.away = False

    def change_history(self, changes: list[HistoryChange]) -> None:
        if self.away:
            raise StoreUnavailable("store", "it is away")
        self._features.change_history(changes)


def parts(backend: Backend, clock: Clock) -> SettlerParts:
    return SettlerParts(backend.log, backend.features, "here", clock, turn=lambda: True)


def history(backend: Backend, user_id: str = "ana") -> list[str]:
    user = backend.features.get_user(user_id)
    return list(user.history) if user else []


def test_installs_and_uninstalls_change_histories_and_clicks_do_not(
    intake: Intake, backend: Backend, clock: Clock
) -> None:
    backend.features.put_users([UserRecord("ana", {"country": "PT"}, {"com.z": 3})])
    intake.take(
        [install("e1"), install("e2", kind="click", app_id="com.y"), install("e3", kind="uninstall", app_id="com.z")]
    )
    Settler(parts(backend, clock)).settle()
    assert history(backend) == ["com.x"]
    assert backend.log.claim("anyone", count=9, idle_s=0) == ()


def test_every_event_that_was_kept_counts_for_the_history(intake: Intake, backend: Backend, clock: Clock) -> None:
    clock.advance(2 * WINDOW_S)
    late, orphan = install("e1", app_id="com.x"), install("e2", app_id="com.o", request_id="r0")
    alone, refused = install("e3", app_id="com.h", request_id=None), install("e4", app_id="com.y", user_id="bob")
    assert statuses(intake, late, orphan, alone, refused) == ["late", "orphan", "accepted", "rejected"]
    Settler(parts(backend, clock)).settle()
    assert history(backend) == ["com.h", "com.o", "com.x"]
    assert history(backend, "bob") == []


def test_an_event_that_names_no_user_counts_for_the_one_it_was_shown_to(
    intake: Intake, backend: Backend, clock: Clock
) -> None:
    intake.take([install(user_id=None)])
    Settler(parts(backend, clock)).settle()
    assert history(backend) == ["com.x"]


def test_an_event_that_is_here_before_its_impression_waits_for_it(
    intake: Intake, backend: Backend, clock: Clock
) -> None:
    settler = Settler(parts(backend, clock))
    intake.take([install(user_id=None, request_id="r2")])
    settler.settle()
    items = (Shown("com.x", 1, 0.5, {}, 0),)
    backend.log.show([Impression("r2", clock(), "v", "bob", {}, {}, {}, items)])
    clock.advance(IDLE_S)
    settler.settle()
    assert history(backend, "bob") == ["com.x"]


def test_an_event_whose_impression_never_comes_is_let_go(intake: Intake, backend: Backend, clock: Clock) -> None:
    intake.take([install(user_id=None, request_id="r2")])
    clock.advance(PATIENCE_S)
    Settler(parts(backend, clock)).settle()
    assert backend.log.claim("anyone", count=9, idle_s=0) == ()
    assert backend.log.counts().feedback == 1


def test_what_one_died_over_is_settled_by_the_next_in_the_same_order(
    intake: Intake, backend: Backend, clock: Clock
) -> None:
    intake.take([install("e1")])
    backend.log.claim("killed before it could change anything", count=9, idle_s=IDLE_S)
    intake.take([install("e2", kind="uninstall")])
    clock.advance(IDLE_S)
    Settler(parts(backend, clock)).settle()
    assert history(backend) == []


def test_a_store_that_is_away_loses_no_change(intake: Intake, backend: Backend, clock: Clock) -> None:
    ledger = Ledger(backend)
    ledger.away = True
    settler = Settler(replace(parts(backend, clock), features=ledger))  # type: ignore[arg-type]  # all that it calls
    intake.take([install()])
    with pytest.raises(StoreUnavailable):
        settler.settle()
    ledger.away = False
    clock.advance(IDLE_S)
    settler.settle()
    assert history(backend) == ["com.x"]


@pytest.mark.parametrize(
    ("broken", "carried_out"), [("claim", True), ("change_history", False), ("change_history", True), ("settle", False)]
)
def test_after_a_step_that_failed_nothing_newer_is_settled_first(
    intake: Intake, backend: Backend, clock: Clock, *, broken: str, carried_out: bool
) -> None:
    flaky = Flaky(backend, broken, carried_out=carried_out)
    left: list[float] = []
    leave = lambda: left.append(clock())  # noqa: E731
    settler = Settler(replace(parts(backend, clock), log=flaky, features=flaky, leave=leave))
    intake.take([install("e1")])
    with pytest.raises(StoreUnavailable):
        settler.settle()
    intake.take([install("e2", kind="uninstall")])
    settler.settle()
    settler.leave()
    assert left == []
    clock.advance(IDLE_S)
    settler.settle()
    settler.leave()
    assert history(backend) == []
    assert backend.log.claim("anyone", count=9, idle_s=0) == ()
    assert left == [clock()]


class Flaky:
    """A log and a feature store of which one call has no answer once, whether it was carried out or not."""

    def __init__(self, backend: Backend, broken: str, *, carried_out: bool) -> None:
        self._backend = backend
        self._broken: str | None = broken
        self._carried_out = carried_out

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  # whatever the store has
        store = self._backend.features if name == "change_history" else self._backend.log
        call = getattr(store, name)
        return self._unanswered(call) if name == self._broken else call

    def _unanswered(self, call: Callable[..., object]) -> Callable[..., None]:
        def called(*arguments: object, **named: object) -> None:
            self._broken = None
            if self._carried_out:
                call(*arguments, **named)
            raise StoreUnavailable("store", "it went away")

        return called


def test_settling_the_same_events_twice_changes_nothing(intake: Intake, backend: Backend, clock: Clock) -> None:
    intake.take([install("e1"), install("e2", kind="uninstall"), install("e3")])
    log = backend.log
    forgetful = replace(parts(backend, clock), log=Forgetful(log))  # type: ignore[arg-type]  # all that it calls
    Settler(forgetful).step()
    first = backend.features.get_user("ana")
    clock.advance(IDLE_S)
    Settler(parts(backend, clock)).settle()
    assert backend.features.get_user("ana") == first
    assert history(backend) == ["com.x"]


class Forgetful:
    """A log whose consumer is killed after it changed the histories and before it could say so."""

    def __init__(self, log: object) -> None:
        self._log = log

    def __getattr__(self, name: str) -> object:
        return (lambda _: None) if name == "settle" else getattr(self._log, name)


def test_more_events_than_one_batch_are_all_settled(intake: Intake, backend: Backend, clock: Clock) -> None:
    intake.take([install(f"e{n}", user_id=f"u{n % 700}", app_id=f"a{n}", request_id=None) for n in range(2_500)])
    Settler(parts(backend, clock)).settle()
    assert sum(len(user.history) for user in backend.features.users()) == 2_500


def test_who_has_no_turn_settles_nothing(intake: Intake, backend: Backend, clock: Clock) -> None:
    intake.take([install()])
    Settler(replace(parts(backend, clock), turn=lambda: False)).settle()
    assert history(backend) == []
