import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from bench import reference_world as world
from bench.peers.messages import Body
from bench.peers.network import TorchRanker
from bench.peers.work import Work as PeerWork
from bench.reference import Work, bodies
from bench.reference_export import export
from bench.reference_log import log_of
from bench.tens import compare
from model.bundle import Bundle
from model.query import App, Query
from model.schema import Kind, Source
from model.scorer import Scorer
from model.training import TrainConfig, train
from service.lifecycle import seal

WORK = Work(apps=2_000, users=300, log=1_024)
HIDDEN = [32, 16, 8]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    dataset = log_of(WORK.seed, WORK.users, apps=WORK.apps, rows=WORK.log)
    config = TrainConfig(params={"dim": 4, "hidden": HIDDEN}, batch_size=128, epochs=1)
    result = train(config, dataset, progress=lambda _: None)
    return seal(result, dataset, version="20260101T000000Z-abcdef", created_at=0.0)


def made(candidates: int) -> Iterator[Body]:
    return (Body.model_validate(body) for body in islice(bodies(WORK, candidates), 20))


def test_the_schema_is_of_the_papers_size() -> None:
    schema, request = world.schema(), (Source.USER, Source.CONTEXT)
    assert len(schema.of(*request, kind=Kind.CATEGORICAL)) == len(schema.of(*request, kind=Kind.CONTINUOUS)) == 24
    assert len(schema.of(Source.APP, kind=Kind.CATEGORICAL)) == 12
    assert len(schema.of(Source.APP, kind=Kind.CONTINUOUS)) == 24
    assert {cross.bits for cross in schema.crosses} == {14}
    assert len({cross.fields for cross in schema.crosses}) == 60


def test_a_larger_catalogue_begins_with_the_same_apps() -> None:
    small, large = world.apps(0, 0, 1_000), world.apps(0, 0, 3_000)
    np.testing.assert_equal({name: values[:1_000] for name, values in large.items()}, small)
    np.testing.assert_equal({name: values[1_000:2_000] for name, values in large.items()}, world.apps(0, 1_000, 1_000))


def test_bodies_differ_and_are_the_same_in_every_run() -> None:
    first, again = (list(islice(bodies(WORK, 50), 100)) for _ in range(2))
    assert first == again
    assert len({json.dumps(body) for body in first}) == 100
    assert all(len(set(body["candidates"])) == 50 for body in first)


def test_the_truth_makes_some_installs_and_not_others(bundle: Bundle) -> None:
    label = log_of(WORK.seed, WORK.users, apps=WORK.apps, rows=WORK.log).examples["label"]
    assert 0.1 < label.mean() < 0.5  # type: ignore[operator]  # of Int8, a number


def test_a_peers_network_gives_the_plain_scorers_ten(bundle: Bundle, tmp_path: Path) -> None:
    export(bundle, WORK, tmp_path)
    ranker = TorchRanker(PeerWork(tmp_path), "fp32")
    asked = list(made(50))
    answers = [[(item.app_id, item.score) for item in ranker.rank(body).items] for body in asked]
    found = compare(answers, [plain_ten(bundle, body) for body in asked])
    assert (found.overlap, found.same) == (1.0, 1.0)
    assert found.error < 1e-6


def plain_ten(bundle: Bundle, body: Body) -> list[tuple[str, float]]:
    scorer = Scorer.of(bundle)
    columns = {name: series.to_list() for name, series in world.texts(world.apps(WORK.seed, 0, WORK.apps)).items()}
    names = world.app_ids(0, WORK.apps).to_list()
    places = [names.index(name) for name in body.candidates]
    apps = [App(names[place], {name: column[place] for name, column in columns.items()}) for place in places]
    users = {name: series.to_list() for name, series in world.texts(world.users(WORK.seed, WORK.users)).items()}
    user = {name: column[int(body.user.id[1:])] for name, column in users.items()}
    with torch.inference_mode():
        scores = scorer.score(Query(body.user.id, user, body.context), scorer.table(apps), np.arange(len(apps)))
    return sorted(zip(body.candidates, scores.tolist(), strict=True), key=lambda pair: -pair[1])[: body.k]
