"""Visitors of the demo's store over the published port: they look, install by the store's truth, and never pause."""

import itertools
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from threading import Event, Thread
from typing import Any

import httpx
import numpy as np

from bench.population import Population, Visits
from model.data.synthetic import SyntheticConfig, World, generate
from tests.e2e.compose import Stack

SHOWN = 10
OUT_OF_FASHION = 0.8
"""Share of the installs that an app out of fashion loses."""

EVENTS_AT_ONCE = 200
TAKEN = {"accepted", "duplicate", "late", "orphan"}
"""What an acknowledged event may be; an orphan's impression is still on its way from another process."""

Sent = dict[str, Any]


def demo_world() -> World:
    """The store that the first start makes."""
    return generate(SyntheticConfig.demo())


def a_day_of_new_fashion(stack: Stack, world: World, *, seed: int) -> list[Sent]:
    """The installs of a day of visits, acknowledged: by the store's truth, but every other app is out of fashion now.

    The change is what there is to learn; a day of the old store is too short to tell two versions of it apart.
    """
    people = Population(world, first_day=world.truth.config.days, seed=seed)
    sent: list[Sent] = []
    with stack.client() as client:
        for visits in people.steps(world.truth.config.days - 1):
            events = _step(client, world, people, visits)
            sent += acknowledged(client, events)
            assert len(sent) == len({event["id"] for event in sent})
    return sent


def acknowledged(client: httpx.Client, events: Sequence[Sent]) -> list[Sent]:
    """Send events in batches; those that were taken."""
    taken: list[Sent] = []
    for first in range(0, len(events), EVENTS_AT_ONCE):
        batch = list(events[first : first + EVENTS_AT_ONCE])
        answer = client.post("/events", json={"events": batch})
        assert answer.status_code == 200, answer.text
        pairs = zip(batch, answer.json()["results"], strict=True)
        taken += [event for event, result in pairs if result["status"] in TAKEN]
    return taken


def statuses(client: httpx.Client, events: Sequence[Sent]) -> set[str]:
    """What is said of these events when they are sent again."""
    said: set[str] = set()
    for first in range(0, len(events), EVENTS_AT_ONCE):
        answer = client.post("/events", json={"events": list(events[first : first + EVENTS_AT_ONCE])})
        assert answer.status_code == 200, answer.text
        said |= {result["status"] for result in answer.json()["results"]}
    return said


def _step(client: httpx.Client, world: World, people: Population, visits: Visits) -> list[Sent]:
    apps, lacks = world.apps["app_id"].to_list(), people.lacks(visits)
    places, requests = np.full((len(visits.user), SHOWN), -1), []
    for visit, user in enumerate(visits.user):
        place_of = {apps[visits.candidates[visit, place]]: int(place) for place in np.flatnonzero(lacks[visit])}
        asked = {
            "user": {"id": f"u{user}"},
            "context": visits.context(world, visit),
            "candidates": list(place_of),
            "k": SHOWN,
        }
        answer = client.post("/rank", json=asked)
        assert answer.status_code == 200, answer.text
        requests.append(answer.json()["request_id"])
        shown = [place_of[item["app_id"]] for item in answer.json()["items"]]
        places[visit, : len(shown)] = shown
    installed = people.show(visits, places)
    app = np.take_along_axis(visits.candidates, np.maximum(places, 0), axis=1)
    out_of_fashion = np.random.default_rng(visits.daytime).random(app.shape) < OUT_OF_FASHION
    installed &= (app % 2 == 0) | ~out_of_fashion
    return [
        event(requests[visit], apps[visits.candidates[visit, places[visit, place]]], user=f"u{visits.user[visit]}")
        for visit, place in zip(*np.nonzero(installed), strict=True)
    ]


def event(request_id: str, app_id: str, *, user: str, kind: str = "install") -> Sent:
    """One event with an id and a time of its own, so that sending it again sends the same."""
    at = datetime.now(UTC).isoformat()
    return {
        "id": secrets.token_hex(8),
        "kind": kind,
        "request_id": request_id,
        "app_id": app_id,
        "user_id": user,
        "at": at,
    }


@dataclass
class Traffic:
    """What visitors without a pause have met. taken: acknowledged events; failed: rankings without an answer of 200."""

    ranked: int = 0
    taken: list[Sent] = field(default_factory=list)
    refused: int = 0
    failed: list[str] = field(default_factory=list)
    degraded: set[str] = field(default_factory=set)


@contextmanager
def traffic_on(stack: Stack, *, clients: int = 4) -> Iterator[Traffic]:
    """Rankings from several connections, an event for each, from the start of the block to its end."""
    met, stop = [Traffic() for _ in range(clients)], Event()
    threads = [Thread(target=_visit, args=(stack, one, stop)) for one in met]
    for thread in threads:
        thread.start()
    total = Traffic()
    try:
        yield total
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        for one in met:
            total.ranked += one.ranked
            total.taken += one.taken
            total.refused += one.refused
            total.failed += one.failed
            total.degraded |= one.degraded


def _visit(stack: Stack, met: Traffic, stop: Event) -> None:
    """New connections now and then; an event that is not acknowledged is let go, since nothing was promised of it."""
    for number in itertools.count():
        user = f"u{number % 500}"
        with stack.client() as client:
            for turn in range(25):
                if stop.is_set():
                    return
                if shown := _look(client, user, met):
                    kind = "click" if turn % 5 else "install"
                    _tell(client, event(*shown, user=user, kind=kind), met)


def _look(client: httpx.Client, user: str, met: Traffic) -> tuple[str, str] | None:
    """Rank once; the answer's id and its first app."""
    began = time.strftime("%H:%M:%S")
    try:
        answer = client.post("/rank", json={"user": {"id": user}, "k": SHOWN})
    except httpx.HTTPError as error:
        met.failed.append(f"{began} {error!r}")
        return None
    if answer.status_code != 200:
        met.failed.append(f"{began} {answer.status_code} {answer.text}")
        return None
    met.ranked += 1
    met.degraded |= set(answer.json()["degraded"])
    return answer.json()["request_id"], answer.json()["items"][0]["app_id"]


def _tell(client: httpx.Client, sent: Sent, met: Traffic) -> None:
    try:
        answer = client.post("/events", json={"events": [sent]})
    except httpx.HTTPError:
        met.refused += 1
        return
    if answer.status_code == 200 and answer.json()["results"][0]["status"] in TAKEN:
        met.taken.append(sent)
    else:
        met.refused += 1
