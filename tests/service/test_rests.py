"""Rests beside requests: in proportion to the work, each thread for itself."""

from threading import Thread, get_ident

import pytest

from service.rests import LONGEST_STEP_S, Rests


def test_rests_last_in_proportion_to_the_processor_time_that_the_step_took() -> None:
    used, rested = iter([1.0, 1.05, 1.05, 1.25, 1.25, 1.35, 1.35]), list[float]()
    rest = Rests(2.0, clock=lambda: next(used), wait=rested.append)
    rest()
    rest()
    rest(times=5)
    assert rested == pytest.approx([0.1, 0.4, 1.0])


def test_what_a_thread_did_before_is_no_step_to_rest_from() -> None:
    used, rested = iter([0.0, 60.0, 60.0]), list[float]()
    Rests(2.0, clock=lambda: next(used), wait=rested.append)()
    assert rested == [2 * LONGEST_STEP_S]


def test_the_work_of_one_thread_does_not_make_another_rest() -> None:
    here, used, rested = get_ident(), dict[int, float](), list[tuple[bool, float]]()
    rest = Rests(
        1.0,
        clock=lambda: used.setdefault(get_ident(), 0.0),
        wait=lambda seconds: rested.append((get_ident() == here, seconds)),
    )

    def work() -> None:
        rest()
        used[get_ident()] += 0.2
        rest()

    other = Thread(target=work)
    other.start()
    other.join()
    used[here] += 0.1
    rest()
    assert rested == [(False, 0.0), (False, 0.2), (True, 0.1)]
