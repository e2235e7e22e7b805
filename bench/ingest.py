"""How fast events and impressions are taken in, on SQLite and on Redis beside each other.

    python -m bench.ingest [--seconds 5] [--workers 1] [--clients 2] [--json figures.json]

One `appshelf serve` for each store, with a home of its own and the same live version. Both stores have an acknowledged
event on disk before it is answered: SQLite with synchronous = FULL, Redis with appendfsync = always; a third column
shows Redis with everysec, which may lose the last second with its machine. The clients share the machine with it all.
"""

import argparse
import json
import math
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any

from bench.redis_process import redis_url
from bench.server import Client, Home, free_port, serving
from model.data.synthetic import SyntheticConfig, dataset
from model.training import TrainConfig
from service.container import Container, build
from service.importing import keep
from service.lifecycle import promote_version, train_version
from service.settings import Settings
from service.store.log_ports import EventLog
from service.store.ports import Note

STORES: Mapping[str, str | None] = {"sqlite": None, "redis always": "always", "redis everysec": "everysec"}
BATCHES = (1, 100, 1_000)
SHOWN = 500
AT_ONCE = 500
SETTLED_S = 1.0

Event = dict[str, str]


@dataclass(frozen=True)
class Plan:
    """How long each figure is measured for, by how many workers and clients."""

    seconds: float
    workers: int
    clients: int


def bodies(count: int) -> list[dict[str, Any]]:
    """Requests of different users and contexts, the whole catalogue as candidates."""
    times = ("night", "morning", "afternoon", "evening")
    return [{"user": {"id": f"u{n % 900}"}, "context": {"daytime": times[n % 4]}, "k": 10} for n in range(count)]


def prepared(home: Home) -> Container:
    """A synthetic store with one live version in this home's store."""
    container = build(Settings.from_env(home.environ))
    made, _ = dataset(SyntheticConfig.small())
    keep(made, container.home, container.features)
    version = train_version(container, TrainConfig(epochs=1), token=secrets.token_hex(3), progress=lambda _: None)
    promote_version(container, version, note=Note("bench", "something to rank with", force=True))
    return container


def shown(port: int) -> list[Event]:
    """What some rankings showed, an event's worth of each."""
    client, events = Client(port), list[Event]()
    for body in bodies(SHOWN):
        _, answer = client.call("POST", "/rank", body)
        named = {"request_id": answer["request_id"], "user_id": body["user"]["id"]}
        events += [{**named, "app_id": item["app_id"]} for item in answer["items"]]
    return events


def rate(plan: Plan, work: Callable[[int], Iterator[int]]) -> float:
    """What all clients did together per second; `work` gives one client's turns, each telling how much it did."""
    until = time.monotonic() + plan.seconds

    def run(client: int) -> int:
        done = 0
        for much in work(client):
            done += much
            if time.monotonic() > until:
                break
        return done

    began = time.monotonic()
    with ThreadPoolExecutor(plan.clients) as clients:
        done = sum(clients.map(run, range(plan.clients)))
    return done / (time.monotonic() - began)


def sending(port: int, known: Sequence[Event], batch: int) -> Callable[[int], Iterator[int]]:
    """Clients that send batches of new clicks on what was shown. Raises RuntimeError where one is not accepted."""

    def send(_: int) -> Iterator[int]:
        client, sender, place = Client(port), secrets.token_hex(4), count()
        while True:
            turns = [next(place) for _ in range(batch)]
            events = [{"id": f"{sender}-{n}", "kind": "click", **known[n % len(known)]} for n in turns]
            status, answer = client.call("POST", "/events", {"events": events})
            if status != 200 or any(result["status"] != "accepted" for result in answer["results"]):
                raise RuntimeError(f"a batch of {batch} was answered with {status}: {str(answer)[:200]}")
            yield batch

    return send


def ranking(port: int) -> Callable[[int], Iterator[int]]:
    """Clients that ask for rankings. Raises RuntimeError where one fails."""

    def rank(number: int) -> Iterator[int]:
        client = Client(port)
        asked = bodies(SHOWN)
        for turn in count(number):
            status, answer = client.call("POST", "/rank", asked[turn % SHOWN])
            if status != 200:
                raise RuntimeError(f"a ranking was answered with {status}: {answer}")
            yield 1

    return rank


def writing(log: EventLog) -> Callable[[int], Iterator[int]]:
    """Writers of impressions like those that the log holds, in batches as a server writes them."""
    like = list(islice(log.impressions(0.0, math.inf), AT_ONCE))

    def write(_: int) -> Iterator[int]:
        writer = secrets.token_hex(4)
        for turn in count():
            yield log.show(replace(one, request_id=f"{writer}-{turn}-{n}") for n, one in enumerate(like))

    return write


def kept(log: EventLog) -> int:
    """How many impressions the log holds once no more come."""
    before = -1
    while (now := log.counts().impressions) != before:
        before = now
        time.sleep(SETTLED_S)
    return now


def figures(container: Container, port: int, plan: Plan) -> dict[str, float]:
    """Every figure of one store, while its server runs."""
    known = shown(port)
    found = {f"/events in batches of {batch:,}, events/s": rate(plan, sending(port, known, batch)) for batch in BATCHES}
    before, began = kept(container.log), time.monotonic()
    answered = found["/rank with its log, answers/s"] = rate(plan, ranking(port))
    asked = answered * (time.monotonic() - began)
    found["impressions kept of those, %"] = 100 * (kept(container.log) - before) / asked
    found["impressions alone, in batches of 500, impressions/s"] = rate(plan, writing(container.log))
    return found


def measured(folder: Path, sync: str | None, plan: Plan) -> dict[str, float]:
    """Every figure of one store in a folder of its own; sync: Redis' appendfsync, None for SQLite."""
    with ExitStack() as open_:
        more = {} if sync is None else {"APPSHELF_REDIS_URL": open_.enter_context(redis_url(folder, sync=sync))}
        home = Home(folder / "home", free_port(), more)
        container = prepared(home)
        open_.enter_context(serving(home, workers=plan.workers))
        return figures(container, home.port, plan)


def main() -> None:
    """Run it, print the table, write JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each figure")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--clients", type=int, default=2)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    plan = Plan(arguments.seconds, arguments.workers, arguments.clients)
    stores = [name for name, sync in STORES.items() if sync is None or shutil.which("redis-server")]
    found = {}
    for name in stores:
        with tempfile.TemporaryDirectory() as folder:
            found[name] = measured(Path(folder), STORES[name], plan)
    print(f"{'':52}" + "".join(f"{name:>16}" for name in stores))
    for row in found[stores[0]]:
        print(f"{row:52}" + "".join(f"{found[name][row]:16,.0f}" for name in stores))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
