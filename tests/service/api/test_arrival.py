"""Waiting for a body: a timer where there is a wait, and none where there is not."""

import asyncio
from collections.abc import Callable

import pytest

from service.api.arrival import within


async def here() -> str:
    return "here"


async def in_turns(count: int) -> str:
    for _ in range(count):
        await asyncio.sleep(0)
    return "after some turns"


async def when_let(let: asyncio.Event) -> str:
    await let.wait()
    return "let"


def test_what_is_here_already_is_returned_with_no_timer_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_timer(_: float) -> None:
        raise AssertionError("a timer was set")

    monkeypatch.setattr(asyncio, "timeout", no_timer)
    assert asyncio.run(within(1, here())) == "here"


@pytest.mark.parametrize("count", [1, 2, 100])
def test_what_takes_some_turns_of_the_loop_is_returned_when_it_comes(count: int) -> None:
    assert asyncio.run(within(60, in_turns(count))) == "after some turns"


def test_what_waits_for_another_task_is_woken_by_it() -> None:
    async def let_later() -> str:
        let = asyncio.Event()
        asyncio.get_running_loop().call_soon(let.set)
        return await within(60, when_let(let))

    assert asyncio.run(let_later()) == "let"


def test_what_does_not_come_in_time_is_a_timeout_and_is_ended() -> None:
    ended: list[str] = []

    async def never() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("yes")

    with pytest.raises(TimeoutError):
        asyncio.run(within(0.01, never()))
    assert ended == ["yes"]


def test_who_waits_can_be_cancelled_like_anybody() -> None:
    async def cancelled() -> bool:
        task = asyncio.create_task(within(60, when_let(asyncio.Event())))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        return task.cancelled()

    assert asyncio.run(cancelled())


def test_a_wait_that_outlives_its_cancelling_goes_on() -> None:
    async def stubborn(let: asyncio.Event) -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return await when_let(let)
        raise AssertionError("it was not cancelled")

    async def cancel_once() -> str:
        let = asyncio.Event()
        task = asyncio.create_task(within(60, stubborn(let)))
        await asyncio.sleep(0)
        task.cancel()
        let.set()
        return await task

    assert asyncio.run(cancel_once()) == "let"


@pytest.mark.parametrize("turns", [0, 3])
def test_what_fails_while_it_is_waited_for_fails_who_waits(turns: int) -> None:
    async def fail(count: int, why: Callable[[], Exception]) -> None:
        await in_turns(count)
        raise why()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(within(60, fail(turns, ZeroDivisionError)))
