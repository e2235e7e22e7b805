import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import inf

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.app_table import AppTable
from model.fast_scorer import Ask, Best, FastScorer, Precision
from model.query import App, Query
from model.scorer import Scorer
from model.training import TrainConfig, train
from tests.model import stores
from tests.model.encoders import EVERYTHING, apps, queries, schemas, scorer_of
from tests.model.families import FORMS, Form

Floats = npt.NDArray[np.float64]
SAME = 1e-6
"""Probabilities as near as this may be in either order: float32 itself does not tell such apps apart."""


@pytest.fixture(autouse=True, params=[torch.bfloat16, torch.float32], ids=["bf16", "fp32"])
def first_pass(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> torch.dtype:
    """Both kinds of processor, whichever runs the tests."""
    dtype: torch.dtype = request.param
    monkeypatch.setattr("model.fast_scorer.best_dtype", lambda: dtype)
    return dtype


@pytest.fixture(scope="module")
def trained() -> Scorer:
    params, whole = {"dim": 8, "hidden": (64, 32)}, stores.store()
    split = pl.when(pl.col("split") == "gate").then(pl.lit("stop")).otherwise("split").alias("split")
    data = replace(whole, examples=whole.examples.with_columns(split))
    result = train(TrainConfig(recipe="adam", params=params, epochs=2), data, progress=lambda _: None)
    return Scorer("v", stores.SCHEMA, result.transform, result.net.requires_grad_(False).eval(), math.log(0.5))


def shelf() -> list[App]:
    return [App(f"com.app{one}") for one in range(stores.APP_COUNT)]


def visitors(count: int) -> Iterator[Query]:
    rng = np.random.default_rng(3)
    for place in range(count):
        installed = rng.choice(stores.APP_COUNT, rng.integers(0, 6), replace=False)
        country = {"country": str(rng.choice(["PT", "GR", "FR"]))} if rng.random() < 0.9 else {}
        yield Query(f"u{place % 150}", {}, country, {f"com.app{one}": 1 for one in installed})


def measured(scorer: Scorer, table: AppTable, asked: Sequence[Query]) -> float:
    """The largest error of the first pass over all of a table."""
    fast, rows = FastScorer(scorer, precision=Precision.FAST, error=inf), np.arange(len(table))
    errors = [logits(scorer.score(q, table, rows)) - logits(fast.scores(ask(fast, q, table))) for q in asked]
    return float(np.abs(errors).max())


def logits(scores: Floats) -> Floats:
    found: Floats = np.log(scores) - np.log1p(-scores)
    return found


def ask(fast: FastScorer, query: Query, table: AppTable, *, rows: npt.ArrayLike | None = None, k: int = 10) -> Ask:
    chosen = torch.arange(len(table)) if rows is None else torch.from_numpy(np.asarray(rows, dtype=np.int64))
    return Ask(fast.encode(query), table, chosen, k)


def check(best: Best, expected: Floats, k: int) -> None:
    """The same k as the reference's, in its order, as sure; and whatever ties with the last of them."""
    mine = best.places[np.argsort(-best.scores, kind="stable")][:k]
    theirs = np.argsort(-expected, kind="stable")[:k]
    np.testing.assert_allclose(expected[mine], expected[theirs], rtol=0, atol=SAME)
    np.testing.assert_allclose(best.scores, expected[best.places], rtol=0, atol=1e-5)
    assert len(set(best.places.tolist())) == len(best.places) >= min(k, len(expected))


def test_exact_answers_are_the_references_on_two_thousand_requests_alone_and_together(trained: Scorer) -> None:
    table, asked, rng = trained.table(shelf()), [*visitors(2000)], np.random.default_rng(4)
    exact = FastScorer(trained, precision=Precision.EXACT, error=2 * measured(trained, table, asked[:200]))
    sizes = rng.choice([0, 1, 3, 20, 40], len(asked), p=[0.02, 0.08, 0.1, 0.3, 0.5])
    chosen = [rng.choice(stores.APP_COUNT, size, replace=False) for size in sizes]
    ks = [int(k) for k in rng.choice([1, 5, 10, 60], len(asked))]
    asks = [ask(exact, query, table, rows=rows, k=k) for query, rows, k in zip(asked, chosen, ks, strict=True)]

    start = 0
    while start < len(asks):
        turn = slice(start, start + int(rng.integers(1, 9)))
        together = exact.best(asks[turn])
        for query, one, rows, best in zip(asked[turn], asks[turn], chosen[turn], together, strict=True):
            expected = trained.score(query, table, rows)
            check(best, expected, one.k)
            check(exact.best([one])[0], expected, one.k)
        start = turn.stop


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@settings(deadline=None, max_examples=12)
@given(st.data(), st.booleans(), st.booleans())
def test_any_schema_and_any_kind_of_net_is_scored_as_by_the_reference(
    form: Form, data: st.DataObject, additive: bool, halved: bool
) -> None:
    schema = data.draw(schemas())
    scorer = scorer_of(schema, architecture=form.architecture, params=form.params, log_rate=math.log(0.3))
    scorer.net.additive = additive and scorer.net.additive
    scorer.net.halved = scorer.net.halved if halved else frozenset()
    table, asked = scorer.table(apps(1, 12)), data.draw(st.lists(queries(schema), min_size=1, max_size=3))
    exact = FastScorer(scorer, precision=Precision.EXACT, error=measured(scorer, table, asked))

    found = exact.best([ask(exact, query, table, k=4) for query in asked])

    for query, best in zip(asked, found, strict=True):
        check(best, scorer.score(query, table, np.arange(12)), 4)


def test_fast_scores_are_off_by_no_more_than_bfloat16_rounds(trained: Scorer, first_pass: torch.dtype) -> None:
    table, asked = trained.table(shelf()), [*visitors(50)]

    error = measured(trained, table, asked)

    assert error < 1e-5 if first_pass is torch.float32 else 0 < error < 0.05


def test_the_best_of_a_fast_scorer_are_those_of_its_first_pass(trained: Scorer) -> None:
    table, fast = trained.table(shelf()), FastScorer(trained, precision=Precision.FAST, error=0.0)

    for query in visitors(20):
        one = ask(fast, query, table)
        best, scores = fast.best([one])[0], fast.scores(one)
        np.testing.assert_array_equal(best.scores, scores[best.places])
        assert sorted(best.scores)[0] == sorted(scores)[-10]


def test_every_app_that_ties_with_the_last_is_among_the_best() -> None:
    scorer = scorer_of(EVERYTHING)
    twins = [App(f"new{place}", {"rating": 1.0 + (place < 3)}) for place in range(40)]
    table = scorer.table(twins)
    scores = scorer.score(Query("v0"), table, np.arange(40))
    k = 5 if scores[0] > scores[-1] else 45

    for precision in Precision:
        fast = FastScorer(scorer, precision=precision, error=0.01)
        best = fast.best([ask(fast, Query("v0"), table, k=k)])[0]
        assert sorted(best.places.tolist()) == [*range(40)]
        assert len(set(best.scores.tolist())) == 2


@pytest.mark.parametrize("precision", Precision)
def test_nothing_to_rank_has_no_best_alone_or_among_others(trained: Scorer, precision: Precision) -> None:
    fast, table = FastScorer(trained, precision=precision, error=0.01), trained.table(shelf())
    query = Query("u1")
    nothing, something = ask(fast, query, table, rows=[]), ask(fast, query, table)

    assert fast.best([]) == []
    assert len(fast.best([nothing])[0].places) == 0
    assert fast.scores(nothing).shape == (0,)
    assert [len(best.places) for best in fast.best([nothing, something, nothing])] == [0, 10, 0]
    assert len(fast.best([ask(fast, query, trained.table([]), rows=[])])[0].scores) == 0


@pytest.mark.parametrize("precision", Precision)
def test_asking_for_more_than_there_is_gives_all_of_it(trained: Scorer, precision: Precision) -> None:
    fast, table = FastScorer(trained, precision=precision, error=0.01), trained.table(shelf())

    best = fast.best([ask(fast, Query("u1"), table, rows=[3, 1, 2], k=10)])[0]

    assert best.places.tolist() == [0, 1, 2]


@pytest.mark.parametrize("error", [inf, 50.0, 0.0])
def test_however_large_the_error_the_answer_is_the_references(trained: Scorer, error: float) -> None:
    table, query = trained.table(shelf()), Query("u1", {}, {"country": "PT"})
    exact = FastScorer(trained, precision=Precision.EXACT, error=error)

    best = exact.best([ask(exact, query, table)])[0]

    reference = trained.score(query, table, np.arange(len(table)))
    np.testing.assert_allclose(best.scores, reference[best.places], rtol=0, atol=1e-6)
    if error:
        check(best, reference, 10)


def test_probabilities_that_round_to_one_all_tie(trained: Scorer) -> None:
    sure = replace(trained, log_rate=60.0)
    table, exact = sure.table(shelf()), FastScorer(sure, precision=Precision.EXACT, error=1e-3)

    best = exact.best([ask(exact, Query("u1"), table, k=3)])[0]

    assert best.places.tolist() == [*range(len(table))]


def test_requests_on_two_tables_are_answered_together_in_their_order(trained: Scorer) -> None:
    fast = FastScorer(trained, precision=Precision.EXACT, error=0.05)
    tables = [trained.table(shelf()), trained.table(shelf()[::-1][:15])]
    asked = [(query, tables[place % 2]) for place, query in enumerate(visitors(9))]

    found = fast.best([ask(fast, query, table, k=3) for query, table in asked])

    for (query, table), best in zip(asked, found, strict=True):
        check(best, trained.score(query, table, np.arange(len(table))), 3)


@pytest.mark.parametrize("form", [FORMS["ffm"], FORMS["pnn both"]], ids=["ffm", "pnn"])
def test_requests_whose_parts_are_wide_are_combined_one_by_one(form: Form, monkeypatch: pytest.MonkeyPatch) -> None:
    scorer = scorer_of(EVERYTHING, architecture=form.architecture, params=form.params)
    table, asked = scorer.table(apps(1, 12)), [Query("v0"), Query("v1", {}, {"daytime": "v2"}), Query("v3")]
    fast = FastScorer(scorer, precision=Precision.FAST, error=0.01)
    together = fast.best([ask(fast, query, table, k=4) for query in asked])

    monkeypatch.setattr("model.scoring_pass.WIDE", 0)

    for one, other in zip(together, fast.best([ask(fast, query, table, k=4) for query in asked]), strict=True):
        np.testing.assert_array_equal(one.places, other.places)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)


def test_a_thousand_candidates_are_scored_as_few_are(trained: Scorer) -> None:
    many = [App(f"com.app{one % stores.APP_COUNT}" if one < 40 else f"new{one}") for one in range(1000)]
    table, query = trained.table(many), Query("u1", {}, {"country": "PT"}, {"com.app3": 1})
    exact = FastScorer(trained, precision=Precision.EXACT, error=0.05)

    best = exact.best([ask(exact, query, table, k=7), ask(exact, query, table, rows=[5], k=7)])[0]

    check(best, trained.score(query, table, np.arange(1000)), 7)


def test_uses_of_a_changed_app_count_for_its_old_row_and_its_new_one() -> None:
    scorer = scorer_of(EVERYTHING)
    table, query = scorer.table(apps(1, 6)), Query("v0", history={"v2": 3})
    table.put([App("v2", {"rating": 9.0})])
    exact = FastScorer(scorer, precision=Precision.EXACT, error=0.1)

    best = exact.best([ask(exact, query, table, k=7)])[0]

    check(best, scorer.score(query, table, np.arange(7)), 7)


def test_scoring_leaves_the_scorer_and_the_callers_modes_alone(trained: Scorer) -> None:
    table, query = trained.table(shelf()), Query("u1")
    before = trained.score(query, table, np.arange(40))
    fast = FastScorer(trained, precision=Precision.FAST, error=0.01)

    fast.best([ask(fast, query, table)])

    np.testing.assert_array_equal(trained.score(query, table, np.arange(40)), before)
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
