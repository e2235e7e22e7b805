"""The load generator against a server of known answers, and what the benchmarks make of what it heard."""

import random
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count, islice
from pathlib import Path
from threading import Thread

import numpy as np
import pytest

from bench.openloop import Answers, Pace, dues, offer, read, saturate, start, write
from bench.overload import became, report
from bench.swap import Swap, memory, summary, touched, wrong_versions
from bench.wires import Wires

BODIES = [b'{"user":{"id":"u1"}}', b'{"user":{"id":"u2"},"k":3}']
OLD, NEW = "20261120T194846Z-1a2b3c", "20261121T070000Z-00ff00"


class Front(ThreadingHTTPServer):
    """Answers every third request with a 503, and closes the connection of every seventh without a word."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answering)
        self.turn = count(1)
        self.asked: list[bytes] = []


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        front = self.server
        assert isinstance(front, Front)
        front.asked.append(self.rfile.read(int(self.headers["Content-Length"])))
        turn = next(front.turn)
        if turn % 7 == 0:
            self.close_connection = True
        elif turn % 3 == 0:
            self._answer(503, b"{}", {"Retry-After": "1"})
        else:
            self._answer(200, f'{{"version":"{OLD}","items":[]}}'.encode(), {})

    def _answer(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture
def front() -> Iterator[Front]:
    with Front() as server:
        serving = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        yield server
        server.shutdown()
        serving.join()


@contextmanager
def wires(front: Front, connections: int) -> Iterator[Wires]:
    opened = Wires(front.server_port, BODIES, connections=connections)
    yield opened
    opened.close()


def heard(wires: Wires, folder: Path) -> Answers:
    write(wires, folder / "answers.npz")
    return read(folder / "answers.npz")


def test_every_request_of_a_rate_is_sent_and_its_answer_told_by_status(front: Front, tmp_path: Path) -> None:
    with wires(front, 4) as opened:
        offer(opened, Pace(400.0, 0.5, even=True), rng=random.Random(0), stopped=[])
        answers = heard(opened, tmp_path)
    assert sorted(np.diff(np.sort(answers.due))) == pytest.approx([1 / 400] * 199, abs=1e-9)
    turns = range(1, 201)
    closed = sum(turn % 7 == 0 for turn in turns)
    refused = sum(turn % 3 == 0 and turn % 7 != 0 for turn in turns)
    told = {int(status): int((answers.status == status).sum()) for status in np.unique(answers.status)}
    assert told == {0: closed, 200: 200 - closed - refused, 503: refused}
    assert set(answers.hinted[answers.status == 503]) == {1}
    assert [answers.versions[place] for place in np.unique(answers.version[answers.status == 200])] == [OLD]
    assert (answers.due <= answers.sent).all()
    assert (answers.sent <= answers.received).all()
    assert Counter(front.asked) == dict.fromkeys(BODIES, 100)


def test_a_full_load_keeps_every_connection_busy_until_its_end(front: Front, tmp_path: Path) -> None:
    with wires(front, 3) as opened:
        saturate(opened, Pace(None, 0.3, connections=3), stopped=[])
        answers = heard(opened, tmp_path)
    assert answers.due.size == len(front.asked) > 3


def test_a_load_that_is_stopped_ends_with_what_it_has_heard(front: Front, tmp_path: Path) -> None:
    bodies = tmp_path / "bodies"
    bodies.write_bytes(b"\n".join(BODIES))
    run = start(front.server_port, bodies, Pace(200.0, 600.0, connections=2), out=tmp_path / "answers.npz")
    while len(front.asked) < 5:
        assert run.process.poll() is None
    assert run.finish(early=True).due.size >= 5


def test_even_requests_are_due_at_even_distances_and_others_at_random_ones_of_the_same_mean() -> None:
    even = list(islice(dues(Pace(100.0, even=True), begin=5.0, rng=random.Random(0)), 5))
    assert even == pytest.approx([5.0, 5.01, 5.02, 5.03, 5.04])
    drawn = np.diff(list(islice(dues(Pace(100.0), begin=5.0, rng=random.Random(0)), 5000)))
    assert drawn.mean() == pytest.approx(0.01, rel=0.05)
    assert drawn.std() == pytest.approx(0.01, rel=0.05)


def answers_of(*rows: tuple[float, float, int, int]) -> Answers:
    """From rows of due, received, status and place of the version; sent when due."""
    due, received, status, version = (np.array(column) for column in zip(*rows, strict=True))
    return Answers(due, due, received, status, version, np.zeros(len(rows), dtype=np.int64), (OLD, NEW))


def test_an_offer_tells_what_was_answered_refused_and_failed() -> None:
    found = became(
        answers_of((0.0, 0.1, 200, 0), (1.0, 1.3, 200, 0), (2.0, 2.01, 503, -1), (4.0, 4.0, 0, -1)),
        number=0,
        factor=2.0,
        cpu_s=0.5,
    )
    assert (found.offered, found.goodput, found.refused, found.unhinted, found.failed) == (1.0, 0.5, 0.25, 1, 1)
    assert [found.p50_ms, found.refusal_p50_ms, found.cpu_ms] == pytest.approx([200, 10, 250])


def test_what_was_offered_is_held_against_the_most_that_was_answered_and_not_against_the_capacity_alone() -> None:
    seconds = np.arange(101) / 100
    every, half = (answers_of(*((due, due, 200 if n % step == 0 else 503, 0) for n, due in enumerate(seconds)))
                   for step in (1, 2))  # fmt: skip
    offers = [became(one, number=0, factor=factor, cpu_s=1.0) for factor, one in ((1.0, every), (2.0, half))]
    last = report([50.5], offers).splitlines()[-1]
    assert last == "goodput at 2 times the capacity: 0.50 of the peak, where 1.00 times the peak was offered"


def swap_of(began: float, ended: float, version: str) -> Swap:
    return Swap(began, ended, version, 100.0, 80.0, (ended + 0.5, ended + 1))


def test_a_request_is_inside_a_swap_where_its_time_touches_it() -> None:
    answers = answers_of((0, 1, 200, 0), (1, 3, 200, 0), (4, 4.5, 200, 1), (4.9, 6, 200, 1), (6, 7, 200, 1))
    assert touched(answers, [(2, 5)]).tolist() == [False, True, True, True, False]


def test_requests_beside_a_look_at_the_memory_are_neither_inside_nor_outside_a_swap() -> None:
    answers = answers_of((0, 0.01, 200, 0), (3, 3.2, 200, 1), (5.1, 5.3, 200, 1), (5.6, 6.6, 200, 1), (8, 8.01, 200, 1))

    found = summary(answers, [swap_of(2, 5, NEW)], OLD)

    assert found["requests inside swaps"] == 2
    assert found["p99 outside swaps, ms"] == pytest.approx(10)
    assert found["p99 inside swaps, ms"] == pytest.approx(200)


def test_an_answer_of_a_version_that_was_not_live_while_it_was_asked_for_is_wrong() -> None:
    swaps = [swap_of(2, 5, NEW)]
    right = answers_of((0, 1, 200, 0), (3, 4, 200, 0), (3, 4, 200, 1), (6, 7, 200, 1), (6, 7, 503, -1))
    assert wrong_versions(right, swaps, OLD) == 0
    assert wrong_versions(answers_of((0, 1, 200, 1), (6, 7, 200, 0)), swaps, OLD) == 2


def test_memory_of_the_last_ten_swaps_is_held_against_the_second_ten() -> None:
    swaps = [
        Swap(0, 0, OLD, float(mib), 2.0 * mib, (0, 0)) for mib in (*[500] * 10, *[100] * 10, *[300] * 5, *[110] * 10)
    ]
    found = memory(swaps)
    assert found["resident last over second"] == pytest.approx(1.1)
    assert found["PSS MiB, second 10"] == 200
    assert np.isnan(memory(swaps[:15])["resident last over second"])
