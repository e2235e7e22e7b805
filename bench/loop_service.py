"""The real server as one arm of the loop: lists over `POST /rank`, installs over `POST /events`, nights by jobs."""

import secrets
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from bench.population import Population, Visits
from bench.server import Client, Home
from model.data.synthetic import World, schema
from model.data.synthetic_log import Flags
from model.data.synthetic_truth import Ints
from service.importing import app_records, user_records

SHOWN = 10
CLIENTS = 4
WINDOW_S = 10.0
NIGHT_S = 900
EVENTS_AT_ONCE = 1_000

Answered = tuple[str, list[int]]
"""A request id and the places, among its visit's candidates, of what was shown."""


class Service:
    """A population's store front: whoever visits is ranked for by a real server."""

    def __init__(self, world: World, people: Population, home: Home) -> None:
        self._world, self._people = world, people
        self._port = home.port
        self._clients: list[Client] = []
        self._pool = ThreadPoolExecutor(CLIENTS)
        self._requests: list[str] = []
        self._apps: list[str] = world.apps["app_id"].to_list()

    def order(self, visits: Visits) -> Ints:
        """(V, SHOWN) places among the candidates that the server answers with, -1 for no more."""
        lacks = self._people.lacks(visits)
        turns = [range(first, len(visits.user), CLIENTS) for first in range(CLIENTS)]
        answers = self._pool.map(partial(self._rank, visits, lacks), self._clients, turns)
        places, self._requests = np.full((len(visits.user), SHOWN), -1), [""] * len(visits.user)
        for turn, found in zip(turns, answers, strict=True):
            for visit, (request_id, shown) in zip(turn, found, strict=True):
                self._requests[visit] = request_id
                places[visit, : len(shown)] = shown
        return places

    def _rank(self, visits: Visits, lacks: Flags, client: Client, turn: Sequence[int]) -> list[Answered]:
        return [self._rank_one(client, visits, visit, lacks[visit]) for visit in turn]

    def _rank_one(self, client: Client, visits: Visits, visit: int, lacks: Flags) -> Answered:
        place_of = {self._apps[visits.candidates[visit, place]]: int(place) for place in np.flatnonzero(lacks)}
        body = {
            "user": {"id": f"u{visits.user[visit]}"},
            "context": visits.context(self._world, visit),
            "candidates": list(place_of),
            "k": SHOWN,
        }
        answer = ok(client.call("POST", "/rank", body))
        return answer["request_id"], [place_of[item["app_id"]] for item in answer["items"]]

    def learn(self, visits: Visits, places: Ints, installed: Flags) -> None:
        """Send every install as an event of its request. Raises RuntimeError where one is not accepted."""
        events = [
            {
                "id": secrets.token_hex(8),
                "kind": "install",
                "request_id": self._requests[visit],
                "app_id": self._apps[visits.candidates[visit, places[visit, place]]],
                "user_id": f"u{visits.user[visit]}",
            }
            for visit, place in zip(*np.nonzero(installed), strict=True)
        ]
        for start in range(0, len(events), EVENTS_AT_ONCE):
            answer = ok(self._clients[0].call("POST", "/events", {"events": events[start : start + EVENTS_AT_ONCE]}))
            if refused := [one for one in answer["results"] if one["status"] != "accepted"]:
                raise RuntimeError(f"{len(refused)} events were not accepted, the first: {refused[0]}")

    def welcome(self, day: int) -> None:
        """Begin a day on fresh connections, and store the users and apps that arrive on it."""
        self._clients = [Client(self._port) for _ in range(CLIENTS)]
        truth = self._world.truth
        users = self._world.users.filter(pl.Series(truth.users.arrived == day))
        apps = self._world.apps.filter(pl.Series(truth.apps.arrived == day))
        owned = dict(users.select("user_id", "installed").iter_rows())
        put_users = [
            {"id": one.id, "features": dict(one.features), "installed": owned[one.id]}
            for one in user_records(users, schema(), histories={})
        ]
        put_apps = [{"id": one.id, "features": dict(one.features)} for one in app_records(apps, schema())]
        for what, records in (("users", put_users), ("apps", put_apps)):
            if records:
                ok(self._clients[0].call("PUT", f"/{what}", {what: records}))

    def night(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Retrain and wait; the job's result. Raises RuntimeError where the job does not succeed."""
        time.sleep(WINDOW_S + 1)  # until the attribution window of the last impression has closed
        client = Client(self._port)
        job = ok(client.call("POST", "/admin/retrain", asked))
        until = time.monotonic() + NIGHT_S
        while job["state"] in ("queued", "running") and time.monotonic() < until:
            time.sleep(0.5)
            job = ok(client.call("GET", f"/admin/jobs/{job['id']}"))
        if job["state"] != "succeeded":
            raise RuntimeError(f"the night's retraining is {job['state']}: {job['result']}")
        result: dict[str, Any] = job["result"]
        return result


def ok(answer: tuple[int, Any]) -> Any:  # noqa: ANN401  # decoded JSON
    """The body of an answer. Raises RuntimeError for anything but success."""
    status, body = answer
    if status >= 400:
        raise RuntimeError(f"the service answered {status}: {body}")
    return body
