"""What is served is what was trained: 1,000 random requests through HTTP against the training forward."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
import pytest

from model.bundle import load
from model.data.dataset import Dataset, user_histories
from model.query import NULL
from model.scorer import Scorer
from model.training import predict
from service.container import Container
from tests.service.store_front import APPS, DAYTIMES, LIVE, SAMPLING_RATE, USERS, apps_of, dataset, users_of
from tests.service.wire import Client, soon

REQUESTS = 1000
STRANGERS = [f"stranger{number}" for number in range(200)]
NEW_APPS = ["com.new1", "com.new2", "com.new3"]
LATER_SPLIT = "gate"

Rng = np.random.Generator


def world(rng: Rng) -> Dataset:
    """Users and apps that were trained on and others, with histories and values of every kind, and rows to score."""
    trained = dataset()
    users = users_of([*USERS, *STRANGERS], rng)
    new = pl.DataFrame(
        {"app_id": NEW_APPS, "category": ["unheard of", NULL, None], "tags": [["odd"], None, ["fun"]]},
        schema_overrides={"tags": pl.List(pl.String)},
    ).with_columns(
        available=True, countries=pl.lit([], dtype=pl.List(pl.String)), rating=pl.Series([math.nan, 99.0, None])
    )
    apps = pl.concat([apps_of(np.random.default_rng(0)), new.select(trained.apps.columns)])
    uses = pl.DataFrame({"user_id": rng.choice(users["user_id"], 900), "app_id": rng.choice(APPS, 900)})
    asked = pl.DataFrame({"request": range(REQUESTS), "user_id": rng.choice(users["user_id"], REQUESTS)}).with_columns(
        daytime=pl.Series(rng.choice([*DAYTIMES, "at no time", NULL, ""], REQUESTS)).replace({"": None}),
        battery=pl.Series(rng.choice([0.0, 0.3, 1.0, -5.0, math.nan], REQUESTS)).replace({0.0: None}),
    )
    candidates = [rng.choice(apps["app_id"], size=rng.integers(1, 12), replace=False) for _ in range(REQUESTS)]
    to_score = asked.with_columns(app_id=pl.Series([list(some) for some in candidates])).explode("app_id")
    examples = pl.concat(
        [
            uses.with_columns(label=pl.lit(1, pl.Int8), split=pl.lit("train")),
            to_score.with_columns(label=pl.lit(0, pl.Int8), split=pl.lit(LATER_SPLIT)),
        ],
        how="diagonal",
    ).join(users.drop("installed"), on="user_id", how="left", maintain_order="left")
    return Dataset(trained.schema, examples, apps, users, trained.facts)


def raw(row: Mapping[str, Any], *names: str) -> dict[str, Any]:
    """Canonical values as a client would send them: a missing one not at all, an explicit null as null."""
    sent = {name: row[name] for name in names if row[name] is not None}
    return {name: None if value == NULL or value != value else value for name, value in sent.items()}


def users_as_sent(world: Dataset) -> dict[str, dict[str, Any]]:
    histories = user_histories(world)
    return {
        row["user_id"]: {
            "id": row["user_id"],
            "features": raw(row, "country", "age", "interests"),
            "installed": list(histories.get(row["user_id"], {})),
            "uses": histories.get(row["user_id"], {}),
        }
        for row in world.users.iter_rows(named=True)
    }


def put_catalogue(client: Client, apps: pl.DataFrame) -> None:
    sent = [
        {"id": row["app_id"], "features": raw(row, "category", "tags", "rating")} for row in apps.iter_rows(named=True)
    ]
    assert client.put("/apps", json={"apps": sent}).status_code == 200
    newest = {"user": {"id": "u1"}, "candidates": NEW_APPS}
    assert soon(lambda: len(client.post("/rank", json=newest).json()["items"]) == len(NEW_APPS))


@pytest.fixture
def scorer(container: Container) -> Scorer:
    return Scorer.of(load(container.registry.folder(LIVE)))


def test_the_served_score_is_the_training_forward_corrected_for_its_sampling(client: Client, scorer: Scorer) -> None:
    made = world(np.random.default_rng(7))
    users = users_as_sent(made)
    stored = [user for place, user in enumerate(users.values()) if place % 2]
    put_catalogue(client, made.apps)
    client.put("/users", json={"users": stored})
    in_store = {user["id"] for user in stored}
    for user_id in set(USERS) - in_store:  # what the store does not know, the request says
        client.delete(f"/users/{user_id}")
    forward = predict(scorer, made, LATER_SPLIT)
    expected = forward * SAMPLING_RATE / (forward * SAMPLING_RATE + 1 - forward)
    rows = made.examples.filter(pl.col("split") == LATER_SPLIT).with_columns(expected=expected)
    compared = 0
    for _, request in rows.group_by("request", maintain_order=True):
        first, truth = request.row(0, named=True), dict(zip(request["app_id"], request["expected"], strict=True))
        user = {"id": first["user_id"]} if first["user_id"] in in_store else users[first["user_id"]]
        body = {"user": user, "context": raw(first, "daytime", "battery"), "candidates": list(truth), "k": len(truth)}
        answer = client.post("/rank", json=body).json()
        served = {item["app_id"]: item["score"] for item in answer["items"]}
        assert served == pytest.approx(truth, abs=1e-5)
        compared += 1
    assert compared == REQUESTS
