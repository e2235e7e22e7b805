"""Rests beside requests: in proportion to the work, each thread for itself."""

from threading import Thread, get_ident

from service.rests import Rests


def test_rests_last_in_proportion_to_the_processor_time_that_the_step_took() -> None:
    used, rested = iter([1.0, 1.5, 1.5, 3.5, 3.5, 4.5, 4.5]), list[float]()
    rest = Rests(2.0, clock=lambda: next(used), wait=rested.append)
    rest()
    rest()
    rest(times=5)
    assert rested == [1.0, 4.0, 10.0]


def test_the_work_of_one_thread_does_not_make_another_rest() -> None:
    here, used, rested = get_ident(), dict[int, float](), list[tuple[bool, float]]()
    rest = Rests(
        1.0,
        clock=lambda: used.setdefault(get_ident(), 0.0),
        wait=lambda seconds: rested.append((get_ident() == here, seconds)),
    )

    def work() -> None:
        rest()
        used[get_ident()] += 5.0
        rest()

    other = Thread(target=work)
    other.start()
    other.join()
    used[here] += 1.0
    rest()
    assert rested == [(False, 0.0), (False, 5.0), (True, 1.0)]
