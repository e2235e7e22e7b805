"""What only a store on Redis has: a server that is down, hung, full or killed, round trips, and word of changes."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier, Event
from uuid import uuid4

import pytest

from service.errors import IllegalTransition, StoreUnavailable
from service.states import State
from service.store.backend import Backend
from service.store.job_ports import Job
from service.store.log_ports import LogCounts, Taken
from service.store.ports import AppRecord, HistoryChange, Note, Outcome, UserRecord, Vote
from service.store.redis_backend import open_redis
from service.store.redis_client import RedisLink, Script
from service.store.redis_news import News
from tests.redis_fleet import cluster_url, redis_cluster
from tests.redis_server import RedisServer, redis_server
from tests.service.clock import Clock
from tests.service.store.entries import NEW, NOTE, OLD, entry
from tests.service.store.test_event_log import impression, install
from tests.service.wire import soon

QUICK_S = 0.1
PATIENT_S = 5.0
MIB = 1024 * 1024

Call = Callable[[Backend], object]

READS: dict[str, Call] = {
    "get_user": lambda store: store.features.get_user("u1"),
    "users": lambda store: list(store.features.users()),
    "get_app": lambda store: store.features.get_app("com.a"),
    "apps_since": lambda store: store.features.apps_since(0),
    "ping": lambda store: store.features.ping(),
    "get": lambda store: store.index.get(OLD),
    "all": lambda store: store.index.all(),
    "live": lambda store: store.index.live(),
    "history": lambda store: store.index.history(),
    "leases": lambda store: store.rollouts.leases(alive_since=0.0),
    "current": lambda store: store.rollouts.current(),
    "votes": lambda store: store.rollouts.votes(1),
    "displayed": lambda store: store.log.displayed(["r1"]),
    "impressions": lambda store: list(store.log.impressions(0.0, 1e12)),
    "feedback": lambda store: list(store.log.feedback(0.0, 1e12)),
    "counts": lambda store: store.log.counts(),
    "job": lambda store: store.jobs.get("j1"),
    "jobs": lambda store: store.jobs.all(limit=5),
    "lease_holder": lambda store: store.jobs.lease_holder("retrain", now=0.0),
}
WRITES: dict[str, Call] = {
    "put_users": lambda store: store.features.put_users([UserRecord("u9", {"text": "x" * MIB})]),
    "change_history": lambda store: store.features.change_history([HistoryChange("u9", "com.a", installed=True)]),
    "put_apps": lambda store: store.features.put_apps([AppRecord("com.z", {"text": "x" * MIB})]),
    "add": lambda store: store.index.add(entry(NEW), note=NOTE),
    "move": lambda store: store.index.move(OLD, State.PASSED, note=NOTE),
    "heartbeat": lambda store: store.rollouts.heartbeat("p1", OLD),
    "begin": lambda store: store.rollouts.begin(NEW, deadline=2e6),
    "vote": lambda store: store.rollouts.vote(1, Vote("p1", ok=True, detail="")),
    "show": lambda store: store.log.show([impression("r9")]),
    "take": lambda store: store.log.take([install("e9")]),
    "add_job": lambda store: store.jobs.add(Job("j9", "retrain", {}, "ana", 1.0)),
}
REMOVALS: dict[str, Call] = {
    "delete_user": lambda store: store.features.delete_user("u1"),
    "leave": lambda store: store.rollouts.leave("p1"),
    "finish": lambda store: store.rollouts.finish(1, Outcome.ABORTED),
    "claim": lambda store: store.log.claim("one", count=5, idle_s=30),
    "settle": lambda store: store.log.settle(["e1"]),
    "forget_user": lambda store: store.log.forget_user("u1"),
    "trim": lambda store: store.log.trim(before=1.0, keep=LogCounts(1, 1)),
    "forget": lambda store: store.jobs.forget(before=1e9),
    "take_lease": lambda store: store.jobs.take_lease("retrain", "a", now=1.0, until=2.0),  # who makes room needs it
    "drop_lease": lambda store: store.jobs.drop_lease("retrain", "a"),
}


def opened(server: RedisServer, *, timeout_s: float = PATIENT_S) -> Backend:
    return open_redis(server.url, clock=Clock(), timeout_s=timeout_s)


def furnished(server: RedisServer, *, timeout_s: float = PATIENT_S) -> Backend:
    """A store with a row of each kind, every kind of connection in use."""
    store = opened(server, timeout_s=timeout_s)
    store.features.put_users([UserRecord("u1", {"country": "PT"})])
    store.features.put_apps([AppRecord("com.a")])
    store.index.add(entry(OLD), note=NOTE)
    store.log.show([impression("r1")])
    store.log.take([install("e1")])
    store.jobs.add(Job("j1", "retrain", {}, "ana", 1.0))
    store.features.ping()
    return store


@pytest.fixture(scope="module")
def down(tmp_path_factory: pytest.TempPathFactory) -> Backend:
    with redis_server(tmp_path_factory.mktemp("down")) as server:
        return furnished(server)


@pytest.fixture(scope="module")
def full(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Backend]:
    options = {"maxmemory": "0", "maxmemory-policy": "noeviction"}
    with redis_server(tmp_path_factory.mktemp("full"), options=options) as server:
        store = furnished(server)
        with server.client() as client:
            client.config_set("maxmemory", 1)
        yield store


@pytest.mark.parametrize("call", [*READS, *WRITES, *REMOVALS])
def test_of_a_server_that_is_down_every_call_says_so_by_name(down: Backend, call: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"the store redis://127\.0\.0\.1:\d+/0 is not available"):
        (READS | WRITES | REMOVALS)[call](down)


@pytest.mark.parametrize("call", WRITES)
def test_a_full_server_refuses_what_needs_room(full: Backend, call: str) -> None:
    with pytest.raises(StoreUnavailable, match=r"\(OOM command not allowed|\(command not allowed when used memory"):
        WRITES[call](full)


@pytest.mark.parametrize("call", READS)
def test_a_full_server_is_read_as_before(full: Backend, call: str) -> None:
    READS[call](full)


def test_a_full_server_keeps_what_it_had_and_none_of_what_it_refused(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    with redis_alone.client() as client:
        client.config_set("maxmemory", 1)
        for call in WRITES.values():
            with pytest.raises(StoreUnavailable):
                call(store)
        client.config_set("maxmemory", 0)

    assert [user.id for user in store.features.users()] == ["u1"]
    assert [app.id for app in store.features.apps_since(0).put] == ["com.a"]
    assert [known.state for known in store.index.all()] == [State.CHALLENGER]
    assert (store.log.counts().impressions, store.log.counts().feedback) == (1, 1)
    assert len(store.index.history()) == 1
    assert store.rollouts.current() is None
    assert store.log.take([install("e9")]) == (Taken.NEW,)


def test_room_is_made_on_a_full_server(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    with redis_alone.client() as client:
        client.config_set("maxmemory", 1)

    assert store.log.trim(before=1e9, keep=LogCounts(10, 10)) == 2
    assert store.features.delete_user("u1")


def test_a_full_store_is_told_without_the_values_that_it_refused(full: Backend) -> None:
    with pytest.raises(StoreUnavailable) as refused:
        full.features.put_users([UserRecord("u9", {"secret": "s3cret"})])

    assert "s3cret" not in str(refused.value)
    assert "u9" not in str(refused.value)


def test_a_hung_server_costs_a_ranking_its_timeout_and_is_itself_again_afterwards(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone, timeout_s=QUICK_S)
    redis_alone.pause()
    for _ in range(2):  # on a connection that was open, and on a new one
        with pytest.raises(StoreUnavailable, match="Timeout"):
            store.features.get_user("u1")

    redis_alone.resume()

    assert store.features.get_user("u1") == UserRecord("u1", {"country": "PT"})


def test_after_a_restart_the_next_call_is_answered_by_the_same_store(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    before = [store.features.get_user("u1"), store.index.all(), store.log.counts(), store.jobs.all(limit=5)]

    redis_alone.kill()
    redis_alone.start()

    after = [store.features.get_user("u1"), store.index.all(), store.log.counts(), store.jobs.all(limit=5)]
    assert after == before
    assert [event.id for event in store.log.claim("one", count=5, idle_s=30)] == ["e1"]


def test_a_server_that_comes_later_is_found(tmp_path: Path) -> None:
    server = RedisServer(tmp_path / "redis")
    store = opened(server)
    with pytest.raises(StoreUnavailable):
        store.index.live()

    server.start()
    try:
        assert soon(lambda: answered(lambda: store.index.live() is None))
    finally:
        server.stop()


def test_every_acknowledged_event_is_there_after_kill_9(redis_alone: RedisServer) -> None:
    store, acknowledged = opened(redis_alone), list[str]()
    many = Event()

    def send(sender: int) -> None:
        for number in range(100_000):
            events = [install(f"e{sender}-{number}-{one}") for one in range(20)]
            try:
                store.log.take(events)
            except StoreUnavailable:
                return
            acknowledged.extend(event.id for event in events)
            if len(acknowledged) > 2_000:
                many.set()

    senders = [threading.Thread(target=send, args=(sender,)) for sender in range(4)]
    for sender in senders:
        sender.start()
    assert many.wait(60)
    redis_alone.kill()
    for sender in senders:
        sender.join()
    redis_alone.start()

    store = opened(redis_alone)
    assert set(acknowledged) <= {event.id for event in store.log.feedback(0.0, 1e12)}
    assert set(store.log.take([install(event_id) for event_id in acknowledged])) == {Taken.SAME}


def test_a_claim_outlives_a_kill_of_the_server(redis_alone: RedisServer) -> None:
    clock = Clock()
    store = open_redis(redis_alone.url, clock=clock, timeout_s=PATIENT_S)
    store.log.take([install("e1"), install("e2")])
    store.log.claim("one", count=1, idle_s=30)

    redis_alone.kill()
    redis_alone.start()

    assert [event.id for event in store.log.claim("two", count=5, idle_s=30)] == ["e2"]
    clock.advance(31)
    assert [event.id for event in store.log.claim("two", count=5, idle_s=30)] == ["e1", "e2"]


def commands(server: RedisServer, call: Callable[[], object]) -> int:
    """How many commands the server carries out for a call, by its own count."""
    with server.client() as client:
        before = client.info("stats")["total_commands_processed"]
        call()
        return int(client.info("stats")["total_commands_processed"] - before - 1)


def test_a_ranking_asks_for_its_user_in_one_command(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)

    assert commands(redis_alone, lambda: store.features.get_user("u1")) == 1
    assert commands(redis_alone, lambda: store.features.get_user("nobody")) == 1


def test_what_was_displayed_is_asked_for_in_one_command(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)

    assert commands(redis_alone, lambda: store.log.displayed([f"r{number}" for number in range(1_000)])) == 1


def test_a_batch_of_events_is_one_message_to_the_server(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    with redis_alone.client() as client:
        client.config_resetstat()
        store.log.take([install(f"e{number}") for number in range(1_000, 2_000)])
        assert client.info("commandstats")["cmdstat_evalsha"]["calls"] == 1


def test_of_two_who_take_a_version_live_one_wins(redis_alone: RedisServer) -> None:
    store, barrier = opened(redis_alone), Barrier(2)
    store.index.add(entry(OLD, State.PASSED), note=NOTE)

    def promote(who: str) -> bool:
        barrier.wait()
        try:
            store.index.move(OLD, State.LIVE, note=Note(who, "a race"))
        except IllegalTransition:
            return False
        return True

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(promote, ("ana", "bob"))) == [False, True]
    assert [move.to for move in store.index.history()] == [State.PASSED, State.LIVE]


def test_histories_changed_by_many_at_once_keep_every_change(redis_alone: RedisServer) -> None:
    store = opened(redis_alone)

    def install_apps(who: int) -> None:
        for number in range(20):
            store.features.change_history([HistoryChange("u1", f"com.{who}.{number}", installed=True)])

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(install_apps, range(4)))

    user = store.features.get_user("u1")
    assert user is not None
    assert len(user.history) == 80


def test_stores_of_two_prefixes_share_a_server_and_nothing_else(redis_alone: RedisServer) -> None:
    one, two = (open_redis(redis_alone.url, clock=Clock(), timeout_s=PATIENT_S, prefix=name) for name in ("a[b]", "ab"))
    one.features.put_users([UserRecord("u1")])
    two.features.put_users([UserRecord("u2")])

    assert [user.id for user in one.features.users()] == ["u1"]
    assert [user.id for user in two.features.users()] == ["u2"]


def test_an_unknown_script_is_sent_whole_and_one_that_is_wrong_says_so(redis_alone: RedisServer) -> None:
    link = RedisLink(redis_alone.url, timeout_s=PATIENT_S)

    assert link.run(Script("return ARGV[1]"), [], ["said"]) == b"said"
    with pytest.raises(StoreUnavailable, match="Unknown Redis command"):
        link.run(Script("return redis.call('NOSUCH')"), [], [])
    with pytest.raises(StoreUnavailable, match="unknown command"):
        link.ask("NOSUCH")


def test_nobody_has_to_wait_for_a_connection_of_another(redis_alone: RedisServer) -> None:
    store, barrier = furnished(redis_alone), Barrier(64)

    def read(_: int) -> UserRecord | None:
        barrier.wait()
        return store.features.get_user("u1")

    with ThreadPoolExecutor(64) as threads:
        assert len([user for user in threads.map(read, range(64)) if user]) == 64


CHANGES: dict[str, Call] = {
    "a rollout begins": lambda store: store.rollouts.begin(NEW, deadline=2e6),
    "a rollout ends": lambda store: store.rollouts.finish(1, Outcome.COMMITTED),
    "a version goes live": lambda store: store.index.move(OLD, State.LIVE, note=NOTE),
    "an app is put": lambda store: store.features.put_apps([AppRecord("com.b")]),
    "an app is deleted": lambda store: store.features.delete_app("com.a"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_whoever_waits_is_woken_when(change: str, redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    store.index.move(OLD, State.PASSED, note=NOTE)
    if change == "a rollout ends":
        store.rollouts.begin(NEW, deadline=2e6)
    other = opened(redis_alone)
    other.rollouts.wait(60.0)  # subscribes

    woken = woken_by(other)
    CHANGES[change](store)

    assert soon(woken.is_set)


@pytest.mark.parametrize("server", ["redis_cluster_url", "redis_sentinel_url"])
def test_whoever_waits_is_woken_on_every_kind_of_server(server: str, request: pytest.FixtureRequest) -> None:
    url, prefix = request.getfixturevalue(server), uuid4().hex
    one, other = (open_redis(url, clock=Clock(), timeout_s=PATIENT_S, prefix=prefix) for _ in range(2))
    other.rollouts.wait(60.0)

    woken = woken_by(other)
    one.rollouts.begin(NEW, deadline=2e6)

    assert soon(woken.is_set)


@pytest.mark.parametrize("change", ["a rollout begins", "an app is put"])
def test_what_is_told_between_two_waits_is_not_missed(change: str, redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    store.rollouts.wait(60.0)

    CHANGES[change](store)

    assert soon(woken_by(store).is_set)


def test_what_changes_nothing_wakes_nobody(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    with redis_alone.client() as client, client.pubsub(ignore_subscribe_messages=True) as told:
        told.subscribe("appshelf:news")
        store.features.put_apps([AppRecord("com.a")])
        store.rollouts.heartbeat("p1", OLD)
        store.rollouts.finish(99, Outcome.ABORTED)
        client.publish("appshelf:news", "the last")

        while (heard := told.get_message(timeout=PATIENT_S)) is None:
            pass
        assert heard["data"] == "the last"


def woken_by(store: Backend) -> Event:
    """Set when a wait of a minute has ended."""
    woken = Event()

    def wait() -> None:
        store.rollouts.wait(60.0)
        woken.set()

    threading.Thread(target=wait, daemon=True).start()
    return woken


def test_while_the_server_is_away_a_wait_raises_nothing_and_takes_its_time(redis_alone: RedisServer) -> None:
    clock, pauses = Clock(), list[float]()
    news = News(RedisLink(redis_alone.url, timeout_s=PATIENT_S), "news", pause=pauses.append, clock=clock)
    news.wait(7.0)
    redis_alone.kill()

    for _ in range(3):
        news.wait(7.0)

    assert pauses == [7.0, 7.0, 7.0]


def test_a_wait_hears_again_when_the_server_is_back(redis_alone: RedisServer) -> None:
    store = furnished(redis_alone)
    store.rollouts.wait(60.0)
    redis_alone.kill()
    store.rollouts.wait(0.01)
    redis_alone.start()
    store.rollouts.wait(60.0)

    woken = woken_by(store)
    store.rollouts.begin(NEW, deadline=2e6)

    assert soon(woken.is_set)


def test_a_cluster_that_was_away_is_found_again(tmp_path: Path) -> None:
    with redis_cluster(tmp_path) as nodes:
        store = open_redis(cluster_url(nodes), clock=Clock(), timeout_s=PATIENT_S)
        everyone = [UserRecord(f"u{number}") for number in range(50)]
        store.features.put_users(everyone)
        for node in nodes:
            node.kill()
        with pytest.raises(StoreUnavailable, match=r"redis\+cluster://"):
            store.features.get_user("u1")
        for node in nodes:
            node.start()

        assert soon(lambda: answered(lambda: len(list(store.features.users())) == len(everyone)))
        assert answered(lambda: store.log.take([install("e1")]) == (Taken.NEW,))


def answered(call: Callable[[], bool]) -> bool:
    try:
        return call()
    except StoreUnavailable:
        return False
