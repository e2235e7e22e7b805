"""The desk: who is ranked with whom and in which turn, who is refused, and who is never waited for."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, cast

import pytest

from service.admission import Refusal, Refused
from service.errors import ClientLeft, NoLiveVersion, Overloaded
from service.fetching import Fetched
from service.rank_desk import FETCHES, DeskLimits, RankDesk
from service.ranker import Asked, Begun, Ranking, RankQuery
from service.telemetry import REQUEST_ID
from tests.service.clock import Clock

LIMITS = DeskLimits(max_under_way=100, batch_limit=4, shed_after_s=0.1)


@dataclass(frozen=True)
class Started:
    """As much of a begun ranking as the desk looks at."""

    name: str
    chunks: int

    @property
    def sought(self) -> "Started":
        return self

    @property
    def is_long(self) -> bool:
        return self.chunks > 1


@dataclass
class Script:
    """A ranker whose rankings are known by their user's id; what happened is in `told`, in order.

    chunks: how many a user's ranking has, 1 where nothing is said; wrong: what fails for whom; turn_s: what scoring
    once takes by the clock.
    """

    clock: Clock
    chunks: dict[str, int] = field(default_factory=dict)
    wrong: dict[str, Exception] = field(default_factory=dict)
    fetching: Exception | None = None
    turn_s: float = 0.0
    told: list[str] = field(default_factory=list)

    def fetch(self, user_ids: Sequence[str], /, *, at_once: bool = False) -> list[Fetched]:
        self.told.append(f"{'stand in for' if at_once else 'fetch'} {' '.join(user_ids)}")
        if self.fetching:
            raise self.fetching
        return [Fetched(None) for _ in user_ids]

    def begin(self, asked: Sequence[Asked], fetched: Sequence[Fetched]) -> list[Begun | Exception]:
        names = [one.query.user_id for one in asked]
        begun = [self.wrong.get(name) or Started(name, self.chunks.get(name, 1)) for name in names]
        return cast(list[Begun | Exception], begun)

    def finish(self, begun: Sequence[Begun]) -> list[Ranking | Exception]:
        names = [cast(Any, one).name for one in begun]
        if names:
            self.told.append(f"score {' '.join(names)}")
            self.clock.advance(self.turn_s)
        return [answer(name) for name in names]

    def finish_long(self, begun: Begun) -> Iterator[Ranking | None]:
        one = cast(Any, begun)
        for number in range(one.chunks):
            self.told.append(f"chunk {number} of {one.name}")
            self.clock.advance(self.turn_s)
            yield None
        if error := self.wrong.get(f"{one.name} at the end"):
            raise error
        yield answer(one.name)


def answer(name: str) -> Ranking:
    return Ranking(name, (), (), (), 0.0)


class Later(Executor):
    """Does what it is given when it is told to, as a thread that waits for a store does."""

    def __init__(self) -> None:
        self.given: list[Callable[[], None]] = []

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> "Future[Any]":
        future: Future[Any] = Future()
        future.set_running_or_notify_cancel()
        self.given.append(lambda: future.set_result(fn(*args, **kwargs)))
        return future


@dataclass
class Desk:
    """A desk on a loop that turns when a test says so; left: whose connections are over."""

    loop: asyncio.AbstractEventLoop
    script: Script
    clock: Clock
    desk: RankDesk
    left: set[str] = field(default_factory=set)

    def ask(self, *names: str) -> "list[asyncio.Task[Ranking]]":
        """Requests that arrive now; nothing of them is done before the loop turns."""
        return [self.loop.create_task(self._rank(name, self.clock())) for name in names]

    async def _rank(self, name: str, arrived: float) -> Ranking:
        return await self.desk.rank(RankQuery(name), request_id=name, arrived=arrived, left=lambda: name in self.left)

    def turn(self, times: int = 1) -> None:
        for _ in range(times):
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()

    def end(self) -> None:
        self.turn(300)

    def scored(self) -> list[str]:
        return [line.removeprefix("score ") for line in self.script.told if line.startswith("score")]


@pytest.fixture
def loop(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    monkeypatch.setattr(loop, "time", clock)
    yield loop
    for task in asyncio.all_tasks(loop):
        task.cancel()
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(loop: asyncio.AbstractEventLoop, clock: Clock) -> Callable[..., Desk]:
    def desk(limits: DeskLimits = LIMITS, elsewhere: Executor | None = None) -> Desk:
        script = Script(clock)
        return Desk(loop, script, clock, RankDesk(script, limits=limits, clock=clock, elsewhere=elsewhere))

    return desk


@pytest.fixture
def desk(make: Callable[..., Desk]) -> Desk:
    return make()


def names(tasks: "Sequence[asyncio.Task[Ranking]]") -> list[str]:
    return [task.result().version for task in tasks]


def refused(tasks: "Sequence[asyncio.Task[Ranking]]") -> list[str]:
    """What those were told that were refused, by the time that all are done."""
    errors = [task.exception() for task in tasks]
    return [str(error) for error in errors if isinstance(error, Overloaded)]


def test_what_arrives_in_one_turn_of_the_loop_is_fetched_and_ranked_together(desk: Desk) -> None:
    tasks = desk.ask("a", "b", "c")
    desk.end()
    assert names(tasks) == ["a", "b", "c"]
    assert desk.script.told == ["fetch a b c", "score a b c"]


def test_one_alone_is_ranked_in_the_turn_after_its_arrival(desk: Desk) -> None:
    (task,) = desk.ask("a")
    desk.turn(2)
    assert desk.script.told == ["fetch a", "score a"]
    desk.turn(2)
    assert task.done()


def test_more_than_a_batch_goes_in_batches_and_the_loop_turns_between_them(desk: Desk) -> None:
    tasks = desk.ask(*"abcdef")
    desk.turn(2)
    assert desk.scored() == ["a b c d"]
    late = desk.ask("g")
    desk.end()
    assert desk.scored() == ["a b c d", "e f g"]
    assert names([*tasks, *late]) == list("abcdefg")


def test_each_is_told_of_its_own_failure_and_the_others_of_none(desk: Desk) -> None:
    desk.script.wrong = {"b": Refused(Refusal("/x", "odd")), "c": ZeroDivisionError("unforeseen")}
    tasks = desk.ask("a", "b", "c", "d")
    desk.end()
    assert names([tasks[0], tasks[3]]) == ["a", "d"]
    assert isinstance(tasks[1].exception(), Refused)
    assert isinstance(tasks[2].exception(), ZeroDivisionError)


def test_before_the_first_version_everybody_is_told_so(desk: Desk) -> None:
    desk.script.wrong = {"a": NoLiveVersion(), "b": NoLiveVersion()}
    tasks = desk.ask("a", "b")
    desk.end()
    assert [type(task.exception()) for task in tasks] == [NoLiveVersion] * 2


def test_what_fails_in_fetching_fails_for_those_it_was_fetched_for(desk: Desk) -> None:
    desk.script.fetching = ValueError("a mistake of ours")
    tasks = desk.ask("a", "b")
    desk.end()
    desk.script.fetching = None
    later = desk.ask("c")
    desk.end()
    assert [str(task.exception()) for task in tasks] == ["a mistake of ours"] * 2
    assert names(later) == ["c"]


def test_a_long_ranking_holds_no_short_one(desk: Desk) -> None:
    desk.script.chunks = {"whole": 50}
    done: list[str] = []
    for task in desk.ask("whole", "a"):
        task.add_done_callback(lambda ended: done.append(ended.result().version))
    desk.turn(10)
    for name in "bcd":
        (task,) = desk.ask(name)
        task.add_done_callback(lambda ended: done.append(ended.result().version))
        desk.turn(4)
    desk.end()
    assert done == ["a", "b", "c", "d", "whole"]
    assert sum(line.startswith("chunk") for line in desk.script.told) == 50


def test_between_two_short_batches_a_long_ranking_gets_one_chunk(desk: Desk) -> None:
    desk.script.chunks = {"whole": 9}
    desk.ask("whole", *"abcdefghijk")
    desk.end()
    told = [line for line in desk.script.told if not line.startswith("fetch")]
    assert told[:6] == [
        "score a b c", "chunk 0 of whole", "score d e f g", "chunk 1 of whole", "score h i j k", "chunk 2 of whole",
    ]  # fmt: skip


def test_long_rankings_share_the_turns_so_that_the_longest_holds_no_shorter_one(desk: Desk) -> None:
    desk.script.chunks = {"million": 40, "thousand": 2}
    million, thousand = desk.ask("million", "thousand")
    desk.turn(10)
    assert thousand.done()
    assert not million.done()
    desk.end()
    assert names([million, thousand]) == ["million", "thousand"]


def test_a_long_ranking_that_fails_is_told_so_and_the_others_go_on(desk: Desk) -> None:
    desk.script.chunks = {"a": 3, "b": 3}
    desk.script.wrong = {"a at the end": ZeroDivisionError("unforeseen")}
    failing, other = desk.ask("a", "b")
    desk.end()
    assert isinstance(failing.exception(), ZeroDivisionError)
    assert names([other]) == ["b"]


def test_long_rankings_past_those_side_by_side_begin_in_order_and_are_refused_once_they_would_wait_too_long(
    desk: Desk,
) -> None:
    desk.script.turn_s = 0.001
    desk.script.chunks = {f"l{number}": 8 for number in range(16)}
    tasks = [task for number in range(16) for task in desk.ask(f"l{number}")]
    desk.end()
    kept = [task.result().version for task in tasks if not task.exception()]
    assert kept[:5] == [f"l{number}" for number in range(5)]
    assert len(kept) + len(refused(tasks)) == 16
    assert refused(tasks)


def test_a_long_ranking_that_would_wait_too_long_for_those_that_run_is_refused_before_any_of_them_ends(
    desk: Desk,
) -> None:
    desk.script.turn_s = 0.001
    desk.script.chunks = {f"l{number}": 50 for number in range(5)}
    *running, late = desk.ask(*desk.script.chunks)
    desk.turn(6)
    assert len(refused([late])) == 1
    assert not any(task.done() for task in running)
    desk.end()
    assert names(running) == ["l0", "l1", "l2", "l3"]


def test_a_long_ranking_waits_for_one_that_is_nearly_done_and_then_begins(desk: Desk) -> None:
    desk.script.turn_s = 0.001
    desk.script.chunks = {"short": 30, **{f"l{number}": 50 for number in range(3)}, "late": 50}
    running = desk.ask("short", "l0", "l1", "l2")
    while sum(line.endswith("of short") for line in desk.script.told) < 25:
        desk.turn()
    late = desk.ask("late")
    desk.end()
    assert names([*running, *late]) == ["short", "l0", "l1", "l2", "late"]


def test_past_the_bound_on_those_under_way_requests_are_refused_at_once_and_then_there_is_room_again(
    make: Callable[..., Desk],
) -> None:
    desk = make(replace(LIMITS, max_under_way=3))
    tasks = desk.ask(*"abcde")
    desk.end()
    assert names(tasks[:3]) == ["a", "b", "c"]
    assert (
        refused(tasks)
        == ["3 rankings are under way here, which is the limit; ask again in a second, or of more workers"] * 2
    )
    later = desk.ask("f")
    desk.end()
    assert names(later) == ["f"]


def test_under_overload_what_would_wait_too_long_is_refused_at_its_arrival_and_the_rest_is_in_time(desk: Desk) -> None:
    desk.script.turn_s = 0.02
    waited: list[float] = []
    tasks: list[asyncio.Task[Ranking]] = []

    def note(task: "asyncio.Task[Ranking]", *, arrived: float) -> None:
        if not task.exception():
            waited.append(desk.clock() - arrived)

    for _ in range(60):
        fresh = desk.ask(*"abcdefghijklmnop")  # twice what two turns take on
        for task in fresh:
            task.add_done_callback(partial(note, arrived=desk.clock()))
        tasks += fresh
        desk.turn(2)
    desk.end()
    turned_away = refused(tasks)
    assert len(tasks) * 0.4 < len(turned_away) < len(tasks) * 0.7
    assert all("waits" in told and "at most 0.1 s" in told for told in turned_away)
    assert max(waited) < 0.1 + 3 * 0.02
    assert len(waited) >= 8 * 55  # no turn was left empty


def test_a_request_that_waited_too_long_behind_others_is_refused_though_nothing_foretold_it(desk: Desk) -> None:
    tasks = desk.ask(*"abcdef")
    desk.script.turn_s = 5.0
    desk.end()
    assert names(tasks[:4]) == ["a", "b", "c", "d"]
    assert len(refused(tasks[4:])) == 2


def test_a_machine_that_stands_still_makes_nobody_refused_who_waited_for_no_other(desk: Desk) -> None:
    tasks = desk.ask(*"abcd")
    desk.turn()
    desk.clock.advance(60.0)
    desk.end()
    assert names(tasks) == ["a", "b", "c", "d"]
    assert names(desk_asked_again(desk)) == ["e", "f"]


def desk_asked_again(desk: Desk) -> "list[asyncio.Task[Ranking]]":
    tasks = desk.ask("e", "f")
    desk.end()
    return tasks


def test_one_turn_that_took_very_long_does_not_turn_the_next_ones_away(desk: Desk) -> None:
    desk.script.turn_s = 60.0
    desk.ask(*"abcd")
    desk.end()
    desk.script.turn_s = 0.001
    tasks = desk.ask(*"efghijkl")
    desk.end()
    assert names(tasks) == list("efghijkl")


def test_a_check_tells_before_anything_is_decoded_whether_there_is_room(make: Callable[..., Desk]) -> None:
    desk = make(replace(LIMITS, max_under_way=1))
    desk.desk.check(desk.clock())
    desk.ask("a")
    desk.turn()
    with pytest.raises(Overloaded, match="1 rankings are under way"):
        desk.desk.check(desk.clock())
    desk.end()
    desk.desk.check(desk.clock())


def test_who_leaves_while_waiting_is_not_ranked(desk: Desk) -> None:
    tasks = desk.ask(*"abcdef")
    desk.turn(1)
    tasks[1].cancel()
    tasks[5].cancel()
    desk.end()
    assert desk.scored() == ["a c d e"]


def test_who_leaves_during_a_long_ranking_ends_it(desk: Desk) -> None:
    desk.script.chunks = {"whole": 50}
    (task,) = desk.ask("whole")
    desk.turn(6)
    task.cancel()
    desk.end()
    assert sum(line.startswith("chunk") for line in desk.script.told) < 10


def test_whose_connection_is_over_takes_no_place_in_a_batch_and_is_not_ranked(desk: Desk) -> None:
    tasks = desk.ask(*"abcdef")
    desk.turn(1)
    desk.left.add("b")
    desk.end()
    assert desk.script.told == ["fetch a c d e", "score a c d e", "fetch f", "score f"]
    assert isinstance(tasks[1].exception(), ClientLeft)
    assert names([tasks[0], *tasks[2:]]) == list("acdef")


def test_a_long_ranking_whose_connection_is_over_ends_before_its_next_chunk(desk: Desk) -> None:
    desk.script.chunks = {"whole": 50}
    (task,) = desk.ask("whole")
    while "chunk 3 of whole" not in desk.script.told:
        desk.turn()
    desk.left.add("whole")
    desk.end()
    assert desk.script.told[-1] == "chunk 3 of whole"
    assert isinstance(task.exception(), ClientLeft)


def test_a_long_ranking_whose_connection_is_over_before_it_began_leaves_its_place_to_the_next(desk: Desk) -> None:
    desk.script.chunks = {f"l{number}": 5 for number in range(6)}
    tasks = desk.ask(*desk.script.chunks)
    desk.turn(6)
    desk.left.add("l4")
    desk.end()
    assert isinstance(tasks[4].exception(), ClientLeft)
    assert names([*tasks[:4], tasks[5]]) == ["l0", "l1", "l2", "l3", "l5"]
    assert not any(line.endswith("of l4") for line in desk.script.told)


def test_what_waits_when_no_more_comes_is_answered(desk: Desk) -> None:
    desk.script.chunks = {"whole": 20}
    tasks = desk.ask("whole", *"abcdefghij")
    desk.loop.run_until_complete(asyncio.wait(tasks))
    assert names(tasks) == ["whole", *"abcdefghij"]


def test_a_store_elsewhere_is_waited_for_off_the_loop_by_one_call_for_all_of_a_turn(make: Callable[..., Desk]) -> None:
    later = Later()
    desk = make(elsewhere=later)
    tasks = desk.ask("a", "b")
    desk.turn(5)
    assert len(later.given) == 1
    assert not any(task.done() for task in tasks)
    later.given[0]()
    desk.end()
    assert desk.script.told == ["fetch a b", "score a b"]
    assert names(tasks) == ["a", "b"]


def test_beside_a_fetch_that_hangs_others_go_on(make: Callable[..., Desk]) -> None:
    later = Later()
    desk = make(elsewhere=later)
    hanging = desk.ask("a")
    desk.turn(5)
    others = desk.ask("b")
    desk.turn(5)
    later.given[1]()
    desk.end()
    assert names(others) == ["b"]
    assert not hanging[0].done()
    later.given[0]()
    desk.end()
    assert names(hanging) == ["a"]


def test_only_so_many_fetches_are_under_way_and_what_comes_meanwhile_goes_with_the_next(
    make: Callable[..., Desk],
) -> None:
    later = Later()
    desk = make(elsewhere=later)
    tasks = []
    for name in "abcdef":
        tasks += desk.ask(name)
        desk.turn(5)
    assert len(later.given) == FETCHES
    later.given[0]()
    desk.turn(5)
    later.given[1]()
    desk.turn(5)
    assert desk.script.told == ["fetch a", "score a", "fetch b", "score b"]
    later.given[2]()
    desk.end()
    assert desk.script.told[-2:] == ["fetch c d e f", "score c d e f"]
    assert names(tasks) == list("abcdef")


def test_who_leaves_while_their_user_is_fetched_is_told_nothing_and_harms_nobody(make: Callable[..., Desk]) -> None:
    later = Later()
    desk = make(elsewhere=later)
    tasks = desk.ask("a", "b")
    desk.turn(5)
    tasks[0].cancel()
    later.given[0]()
    desk.end()
    assert desk.scored() == ["b"]
    assert names(tasks[1:]) == ["b"]


def test_whose_connection_is_over_while_their_user_is_fetched_is_not_ranked(make: Callable[..., Desk]) -> None:
    later = Later()
    desk = make(elsewhere=later)
    tasks = desk.ask("a", "b")
    desk.turn(5)
    desk.left.add("a")
    later.given[0]()
    desk.end()
    assert desk.scored() == ["b"]
    assert isinstance(tasks[0].exception(), ClientLeft)
    assert names(tasks[1:]) == ["b"]


def held(desk: Desk, *hanging: str) -> "list[asyncio.Task[Ranking]]":
    """Requests whose fetches never end, one for each that may be under way."""
    tasks = []
    for name in hanging:
        tasks += desk.ask(name)
        desk.turn(5)
    return tasks


def test_while_every_fetch_hangs_what_waited_too_long_and_what_comes_then_is_ranked_without_the_store(
    make: Callable[..., Desk],
) -> None:
    later = Later()
    desk = make(elsewhere=later)
    hanging = held(desk, "a", "b")
    waiting = desk.ask(*"cdefgh")
    desk.turn(5)
    desk.clock.advance(0.09)
    desk.end()
    assert not any(task.done() for task in waiting)
    desk.clock.advance(0.011)
    desk.end()
    assert desk.script.told == ["stand in for c d e f", "score c d e f", "stand in for g h", "score g h"]
    fresh = desk.ask("i")
    desk.end()
    assert names([*waiting, *fresh]) == list("cdefghi")
    assert len(later.given) == FETCHES
    assert not any(task.done() for task in hanging)


def test_once_a_fetch_has_returned_the_store_is_asked_again(make: Callable[..., Desk]) -> None:
    later = Later()
    desk = make(elsewhere=later)
    held(desk, "a", "b")
    desk.ask("c")
    desk.turn(5)
    desk.clock.advance(0.2)
    desk.end()
    later.given[0]()
    desk.turn(5)
    desk.ask("d")
    desk.turn(5)
    later.given[2]()
    desk.end()
    assert desk.script.told == ["stand in for c", "score c", "fetch a", "score a", "fetch d", "score d"]


def test_what_waited_for_a_store_that_hung_is_not_refused_when_a_fetch_returns(make: Callable[..., Desk]) -> None:
    later = Later()
    desk = make(elsewhere=later)
    held(desk, "a", "b")
    waiting = desk.ask(*"cdefghijkl")
    desk.turn(5)
    desk.clock.advance(0.2)
    while "score c d e f" not in desk.script.told:
        desk.turn()
    later.given[0]()
    for _ in range(300):
        desk.turn()
        for fetch in later.given[2:]:
            fetch()
        del later.given[2:]
    assert names(waiting) == list("cdefghijkl")


def test_a_store_that_answers_is_asked_for_one_who_waited_long_for_others(make: Callable[..., Desk]) -> None:
    later = Later()
    desk = make(elsewhere=later)
    desk.ask("a")
    desk.turn()
    desk.clock.advance(60.0)
    desk.turn(5)
    held(desk, "b")
    desk.ask("c")
    desk.turn(5)
    assert desk.script.told == []
    assert len(later.given) == FETCHES


class Closed(Executor):
    """Takes nothing on."""

    def submit(self, fn: Callable[..., Any], /, *args: object, **kwargs: object) -> "Future[Any]":
        raise RuntimeError("cannot schedule new futures after shutdown")


def test_where_no_thread_takes_a_fetch_on_those_it_was_for_are_told_so(make: Callable[..., Desk]) -> None:
    desk = make(elsewhere=Closed())
    tasks = [task for name in "abc" for task in held(desk, name)]
    desk.end()
    assert [type(task.exception()) for task in tasks] == [RuntimeError] * 3


def test_a_turn_works_in_the_name_of_no_one_request(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str | None] = []
    finish = desk.script.finish

    def note(begun: Sequence[Begun]) -> list[Ranking | Exception]:
        seen.append(REQUEST_ID.get())
        return finish(begun)

    monkeypatch.setattr(desk.script, "finish", note)
    token = REQUEST_ID.set("a stale one")
    desk.ask(*"abcdef")
    REQUEST_ID.reset(token)
    desk.end()
    assert seen == [None, None]
