import math
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from model.data.dataset import Dataset, user_histories
from model.query import App, Query
from model.scorer import Scorer
from model.training import TrainConfig, TrainResult, predict, train
from tests.model.test_training import learnable
from tests.model.worlds import APPS, COUNTED


def scorer_of(result: TrainResult, *, rate: float = 1.0) -> Scorer:
    schema = result.transform.schema
    return Scorer("v1", schema, result.transform, result.net.requires_grad_(False).eval(), math.log(rate))


@pytest.fixture(scope="module")
def data() -> Dataset:
    whole = learnable(600)
    return replace(whole, schema=COUNTED, facts=replace(whole.facts, timed=False))


@pytest.fixture(scope="module", params=["paper", "adam"])
def scorer(request: pytest.FixtureRequest, data: Dataset) -> Scorer:
    config = TrainConfig(recipe=request.param, params={"dim": 4, "hidden": (16, 8)}, batch_size=64, epochs=2)
    return scorer_of(train(config, data, progress=lambda _: None))


def apps() -> list[App]:
    rows = APPS.drop("available", "countries").to_dicts()
    return [App(str(row.pop("app_id")), {k: v for k, v in row.items() if v is not None}) for row in rows]


def queries(data: Dataset, split: str) -> Sequence[tuple[Query, str]]:
    histories = user_histories(data)
    rows = data.examples.filter(split=split).to_dicts()
    return [(_query(row, histories.get(row["user_id"], {})), str(row["app_id"])) for row in rows]


def _query(row: dict[str, Any], history: dict[str, int]) -> Query:
    return Query(str(row["user_id"]), {"age": row["age"]}, {"daytime": row["daytime"]}, history)


def test_the_served_score_equals_the_training_forward(scorer: Scorer, data: Dataset) -> None:
    table = scorer.table(apps())

    served = [scorer.score(query, table, np.array([table.index[app]]))[0] for query, app in queries(data, "stop")]

    np.testing.assert_allclose(served, predict(scorer, data, "stop"), atol=1e-6)


def test_scoring_many_candidates_together_equals_scoring_them_alone(scorer: Scorer, data: Dataset) -> None:
    table, (query, _) = scorer.table(apps()), queries(data, "stop")[0]

    together = scorer.score(query, table, np.arange(4))

    alone = [scorer.score(query, table, np.array([row]))[0] for row in range(4)]
    np.testing.assert_allclose(together, alone, atol=1e-6)


def test_negative_sampling_is_corrected_in_the_served_probability(scorer: Scorer) -> None:
    table = scorer.table(apps())
    query, rows = Query("u0", history={"a": 2}), np.arange(4)

    sampled = scorer.score(query, table, rows)
    corrected = replace(scorer, log_rate=math.log(0.1)).score(query, table, rows)

    np.testing.assert_allclose(corrected / (1 - corrected), 0.1 * sampled / (1 - sampled), rtol=1e-9)


def test_missing_null_and_unknown_values_are_observed_apart(scorer: Scorer) -> None:
    query = Query("stranger", {"age": None}, {})

    assert scorer.observe(query) == {"user_id": "unknown", "age": "null", "daytime": "missing"}
    assert scorer.observe(Query("u0", {"age": 3}, {"daytime": None})) == {"daytime": "null"}


def test_a_query_of_nothing_known_still_scores(scorer: Scorer) -> None:
    table = scorer.table([*apps(), App("new")])

    scores = scorer.score(Query("stranger"), table, np.arange(5))

    assert np.isfinite(scores).all()


def test_no_candidates_have_no_scores(scorer: Scorer) -> None:
    assert scorer.score(Query("u0"), scorer.table([]), np.empty(0, dtype=np.int64)).shape == (0,)


def test_a_changed_app_gets_a_new_row_and_rows_taken_before_stay_valid(scorer: Scorer) -> None:
    table, query = scorer.table(apps()), Query("u0")
    before = scorer.score(query, table, np.arange(4))

    table.put([App("a", {"rating": 1.0, "tags": ["x"]}), App("e")])

    assert table.index["a"] == 4
    assert table.index["e"] == 5
    np.testing.assert_array_equal(scorer.score(query, table, np.arange(4)), before)


def test_a_table_grown_app_by_app_equals_one_made_at_once(scorer: Scorer) -> None:
    many = [App(f"app{place}", {"rating": place % 5}) for place in range(300)]
    grown, whole = scorer.table([]), scorer.table(many, capacity=300)

    for app in many:
        grown.put([app])

    scores = [scorer.score(Query("u1", history={"a": 1}), table, np.arange(300)) for table in (grown, whole)]
    np.testing.assert_allclose(scores[0], scores[1], atol=1e-6)


def test_reading_while_another_thread_puts_gives_the_scores_of_the_rows_asked(scorer: Scorer) -> None:
    table, query = scorer.table(apps()), Query("u0")
    expected = scorer.score(query, table, np.arange(4))
    writer = threading.Thread(target=lambda: [table.put([App(f"n{i}")]) for i in range(400)])  # type: ignore[func-returns-value]  # a loop in a lambda
    writer.start()

    while writer.is_alive():
        np.testing.assert_array_equal(scorer.score(query, table, np.arange(4)), expected)
    writer.join()

    assert len(table) == 404


def test_a_scorer_holds_no_gradients(scorer: Scorer) -> None:
    assert not any(parameter.requires_grad for parameter in scorer.net.parameters())
    assert not scorer.net.training
    assert torch.is_grad_enabled()
