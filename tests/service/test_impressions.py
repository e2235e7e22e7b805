"""Impressions: they hold what was scored, and logging them is never in the way."""

from collections.abc import Iterable
from contextlib import suppress
from random import Random
from threading import Event, Thread
from typing import Any

import numpy as np
import pytest

from model.bundle import load
from model.query import App, Query
from model.schema import PairStatistic
from model.scorer import Scorer, pair_statistics
from service.container import Container
from service.errors import StoreUnavailable
from service.impressions import AT_ONCE, ImpressionWriter
from service.store.log_ports import Impression, Shown
from tests.service.store_front import APPS, COUNTRIES, DAYTIMES, LIVE, TAGS, USERS
from tests.service.wire import Client, serving, soon

EVER = (0.0, 1e12)
REQUESTS = 120


def logged(container: Container, count: int) -> dict[str, Impression]:
    assert soon(lambda: container.log.counts().impressions >= count)
    return {one.request_id: one for one in container.log.impressions(*EVER)}


def random_request(rng: Random) -> dict[str, Any]:
    """Known and unknown users, with and without values that override the store's; known and unknown candidates."""
    features = {
        "country": rng.choice([*COUNTRIES, "at no place known", None]),
        "age": rng.choice([rng.uniform(10, 80), 33, None]),
        "interests": rng.sample(TAGS, rng.randint(0, 3)),
    }
    told = rng.sample(sorted(features), rng.randint(0, 3))
    user: dict[str, Any] = {
        "id": rng.choice([*USERS, "stranger"]),
        "features": {name: features[name] for name in told},
    }
    if rng.random() < 0.3:
        user["installed"] = rng.sample([*APPS, "com.unheard"], rng.randint(0, 8))
    if rng.random() < 0.3:
        user["uses"] = {app_id: rng.randint(1, 9) for app_id in rng.sample(APPS, rng.randint(0, 8))}
    body: dict[str, Any] = {"user": user, "k": rng.randint(1, 30), "context": {"daytime": rng.choice(DAYTIMES)}}
    if rng.random() < 0.5:
        body["context"]["battery"] = rng.random()
        body["candidates"] = rng.sample([*APPS, "com.unheard"], rng.randint(1, 20))
    return body


def edit(client: Client, rng: Random) -> None:
    """Change an app and a user while requests are under way."""
    features = {"rating": rng.uniform(0, 5), "tags": rng.sample(TAGS, 2), "category": rng.choice(["games", "tools"])}
    client.put("/apps", json={"apps": [{"id": rng.choice(APPS), "features": features}]})
    user = {"id": rng.choice(USERS), "features": {"age": rng.uniform(10, 80)}, "installed": rng.sample(APPS, 3)}
    client.put("/users", json={"users": [user]})


def scored_again(scorer: Scorer, one: Impression) -> list[float]:
    """The scores that the version gives to what an impression says was shown, computed from nothing else."""
    table = scorer.table([App(item.app_id, item.features) for item in one.items])
    query = Query(one.user_id, one.user, one.context, one.history)
    return list(scorer.score(query, table, np.arange(len(one.items))))


def test_an_impression_scored_again_from_its_own_values_gives_the_scores_that_were_shown(
    client: Client, container: Container
) -> None:
    rng = Random(5)
    answers = {}
    for number in range(REQUESTS):
        if number % 5 == 0:
            edit(client, rng)
        answer = client.post("/rank", json=random_request(rng)).json()
        if answer["items"]:
            answers[answer["request_id"]] = answer["items"]
    kept = logged(container, len(answers))
    scorer = Scorer.of(load(container.bundles.fetch(LIVE)))
    assert kept.keys() == answers.keys()
    assert len(kept) > 100
    assert len({str(item.features) for one in kept.values() for item in one.items}) > len(APPS)  # edits were seen
    for request_id, one in kept.items():
        shown = [(item.app_id, item.score) for item in one.items]
        assert shown == [(item["app_id"], item["score"]) for item in answers[request_id]]
        assert [item.position for item in one.items] == [item["rank"] for item in answers[request_id]]
        assert [item.score for item in one.items] == pytest.approx(scored_again(scorer, one), abs=1e-6)
        statistics = pair_statistics(
            Query(one.user_id, history=one.history), [item.app_id for item in one.items], scorer.transform
        )
        assert [item.others for item in one.items] == statistics[PairStatistic.OTHERS].tolist()
        assert one.version == LIVE


def test_the_metrics_count_what_was_logged(client: Client, container: Container) -> None:
    for _ in range(3):
        client.post("/rank", json={"user": {"id": "u1"}})
    logged(container, 3)
    assert soon(lambda: "appshelf_impressions_total 3.0" in client.get("/metrics").text)


def test_what_is_held_back_is_written_when_the_process_ends(container: Container) -> None:
    with serving(container) as client:
        answers = [client.post("/rank", json={"user": {"id": "u1"}}).json()["request_id"] for _ in range(20)]
    assert {one.request_id for one in container.log.impressions(*EVER)} == set(answers)


def test_of_two_rankings_under_one_id_the_first_is_logged_and_the_other_counted_as_lost(
    client: Client, container: Container
) -> None:
    named = {"X-Request-ID": "one-page-view"}
    for user in ("u1", "u2"):
        client.post("/rank", json={"user": {"id": user}}, headers=named)
    logged(container, 1)
    client.post("/rank", json={"user": {"id": "u3"}}, headers=named)
    assert soon(lambda: 'appshelf_impressions_dropped_total{reason="repeated_id"} 2.0' in client.get("/metrics").text)
    assert "appshelf_impressions_total 1.0" in client.get("/metrics").text
    assert logged(container, 1)["one-page-view"].user_id == "u1"


class Counter:
    """A meter that adds up."""

    def __init__(self) -> None:
        self.kept = 0
        self.lost: dict[str, int] = {}

    def impressions_kept(self, count: int) -> None:
        self.kept += count

    def impressions_lost(self, reason: str, *, count: int) -> None:
        self.lost[reason] = self.lost.get(reason, 0) + count


class Paper:
    """A log that takes impressions, unless something is wrong with it."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.wrong: Exception | None = None
        self.poison: str | None = None
        self.known: set[str] = set()
        self.may_go_on = Event()
        self.may_go_on.set()
        self.began = Event()

    def show(self, impressions: Iterable[Impression]) -> int:
        batch = [one.request_id for one in impressions]
        self.began.set()
        assert self.may_go_on.wait(20)
        if self.wrong:
            raise self.wrong
        if self.poison in batch:
            raise TypeError(f"{self.poison} cannot be encoded")
        self.batches.append(batch)
        return len(set(batch) - self.known)

    @property
    def written(self) -> list[str]:
        return [request_id for batch in self.batches for request_id in batch]


AWAY = StoreUnavailable("log.sqlite", "it is away")


def impression(request_id: str, user_id: str = "u1") -> Impression:
    return Impression(request_id, 1.0, LIVE, user_id, {}, {}, {}, (Shown("com.a", 1, 0.5, {}, 0),))


def writer_of(paper: Paper, meter: Counter, capacity: int = 1000) -> ImpressionWriter:
    return ImpressionWriter(paper, capacity=capacity, meter=meter)  # type: ignore[arg-type]  # all that it calls


def test_a_full_buffer_drops_the_newest_and_counts_it() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter, capacity=3)
    for number in range(5):
        writer.record(impression(f"r{number}"))
    assert meter.lost == {"buffer_full": 2}
    writer.start()
    writer.stop()
    assert paper.written == ["r0", "r1", "r2"]
    assert meter.kept == 3


def test_recording_does_not_wait_for_a_store_that_takes_its_time() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter, capacity=10)
    writer.start()
    paper.may_go_on.clear()
    writer.record(impression("first"))
    assert paper.began.wait(20)
    for number in range(50):  # the writer is stuck in the store all the while
        writer.record(impression(f"r{number}"))
    assert meter.lost == {"buffer_full": 41}
    paper.may_go_on.set()
    writer.stop()
    assert len(paper.written) == 10


def test_what_could_not_be_written_is_kept_in_order_and_written_when_the_store_is_back() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter)
    paper.wrong = AWAY
    writer.start()
    for number in range(4):
        writer.record(impression(f"r{number}"))
    assert paper.began.wait(20)
    assert paper.written == []
    paper.wrong = None
    assert soon(lambda: len(paper.written) == 4)
    writer.stop()
    assert paper.written == ["r0", "r1", "r2", "r3"]
    assert meter.lost == {}


def test_what_is_left_at_the_end_without_a_store_is_counted_as_lost(caplog: pytest.LogCaptureFixture) -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter)
    paper.wrong = AWAY
    writer.start()
    writer.record(impression("r1"))
    writer.stop()
    assert meter.lost == {"stopped": 1}
    assert "1 impressions could not be written" in caplog.text


def test_a_batch_that_cannot_be_written_at_all_is_given_up_and_the_next_is_written() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter)
    paper.poison = "bad"
    writer.start()
    writer.record(impression("bad"))
    assert soon(lambda: meter.lost == {"unwritable": 1})
    writer.record(impression("good"))
    writer.stop()
    assert paper.written == ["good"]


def test_what_a_try_without_an_answer_has_kept_is_not_counted_as_lost() -> None:
    paper, meter = Paper(), Counter()
    writer = ImpressionWriter(paper, capacity=9, meter=meter)  # type: ignore[arg-type]  # all that it calls
    paper.known, paper.wrong = {"first", "second"}, StoreUnavailable("log", "its answer was lost")
    for request_id in ("first", "second"):
        writer.record(impression(request_id))
        with suppress(StoreUnavailable):
            writer.flush([request_id])
        paper.wrong = None
        writer.flush([request_id])
    assert (meter.kept, meter.lost) == (1, {"repeated_id": 1})


def test_batches_are_of_a_size_that_lets_others_write_too() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter, capacity=5000)
    for number in range(1200):
        writer.record(impression(f"r{number}"))
    writer.start()
    writer.stop()
    assert [len(batch) for batch in paper.batches] == [AT_ONCE, AT_ONCE, 200]


def test_a_flush_writes_at_once_where_one_of_the_requests_is_held_back() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter)  # its thread does not run
    writer.record(impression("r1"))
    writer.record(impression("r2"))
    writer.flush(["of another process"])
    assert paper.written == []
    writer.flush(["r2", "of another process"])
    assert paper.written == ["r1", "r2"]


def test_a_flush_waits_for_the_batch_that_is_on_its_way() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter)
    writer.start()
    paper.may_go_on.clear()
    writer.record(impression("r1"))
    assert paper.began.wait(20)
    flushing = Thread(target=writer.flush, args=(["r1"],))
    flushing.start()
    paper.may_go_on.set()
    flushing.join()
    assert paper.written == ["r1"]
    writer.stop()


def test_the_first_of_a_request_id_is_the_one_that_is_written() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter)
    writer.record(impression("r1"))
    writer.record(impression("r1"))
    writer.flush(["r1"])
    assert paper.written == ["r1"]


def test_what_is_held_back_of_a_forgotten_user_is_never_written() -> None:
    paper, meter = Paper(), Counter()
    writer = writer_of(paper, meter)
    writer.record(impression("r1", "ana"))
    writer.record(impression("r2", "bob"))
    assert writer.forget_user("ana") == 1
    assert writer.forget_user("ana") == 0
    writer.flush(["r2"])
    assert paper.written == ["r2"]
