"""How far a fast scorer is from the reference, against answers made by hand and nets of real weights."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isnan, log
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch

from model.agreement import Asked, logit_error, measure
from model.bundle import Bundle
from model.data.dataset import Dataset
from model.fast_scorer import Ask, Best, FastScorer, Precision
from model.gate import judge
from model.precision_checks import EXACT, ORDER, exact_check, order_check, precision_checks
from model.query import App, Query
from model.report import Check, Limits, PrecisionSetting
from model.request_side import Encoded
from model.scorer import Scorer
from tests.model.stores import APP_COUNT, bundle_of, store

DEEP: dict[str, Any] = {"dim": 4, "hidden": (16, 8)}
LIMITS = Limits()


@pytest.fixture(scope="module")
def dataset() -> Dataset:
    return store()


@pytest.fixture(scope="module")
def bundle(dataset: Dataset) -> Bundle:
    return bundle_of(dataset, params=DEEP)


@pytest.fixture(scope="module")
def scorer(bundle: Bundle) -> Scorer:
    return Scorer.of(bundle)


@pytest.fixture(scope="module")
def odd(dataset: Dataset) -> Scorer:
    """A net that bf16 cannot follow: what tells its apps apart is a 400th of what they have in common."""
    bundle, rng = bundle_of(dataset, params={"dim": 4, "hidden": (16,)}), torch.Generator().manual_seed(7)
    weights = {name: weight.clone() for name, weight in bundle.weights.items()}
    weights["wide.app.table"].zero_()
    weights["deep.first.bias"].fill_(300)
    weights["deep.first.app"].normal_(0, 40, generator=rng)
    last = weights["deep.mlp.layers.1.weight"].normal_(0, 0.01, generator=rng)
    last -= last.mean()
    return Scorer.of(replace(bundle, weights=weights))


def shelf(scorer: Scorer, *, users: int = 20, apps: int = APP_COUNT) -> list[Asked]:
    table = scorer.table([App(f"com.app{one}") for one in range(apps)])
    queries = [Query(f"u{one}", {}, {"country": "PT"}, {f"com.app{one}": 1}) for one in range(users)]
    return [Asked(query, table, np.arange(apps)) for query in queries]


@dataclass
class Prompted:
    """A fast scorer that answers every request with the same probabilities, one for each candidate."""

    probabilities: npt.NDArray[np.float64]

    def encode(self, query: Query) -> Encoded:
        return cast(Encoded, query)

    def scores(self, _: Ask) -> npt.NDArray[np.float64]:
        return self.probabilities

    def best(self, asks: Sequence[Ask]) -> list[Best]:
        return [Best(cast(Any, np.arange(len(self.probabilities))), cast(Any, self.probabilities)) for _ in asks]


def prompted(probabilities: npt.NDArray[np.float64]) -> FastScorer:
    return cast(FastScorer, Prompted(probabilities))


def test_a_scorer_that_gives_the_references_scores_agrees_in_everything(scorer: Scorer) -> None:
    (asked,) = shelf(scorer, users=1)
    found = measure(scorer, prompted(scorer.score(asked.query, asked.table, asked.rows)), [asked])
    assert (found.overlap, found.order, found.score_error, found.requests) == (1.0, 1.0, 0.0, 1)
    assert found.logit_error == pytest.approx(0.0, abs=1e-12)


def test_the_overlap_is_the_share_of_the_references_ten_and_the_order_is_of_whole_lists(scorer: Scorer) -> None:
    (asked,) = shelf(scorer, users=1)
    reference = scorer.score(asked.query, asked.table, asked.rows)
    first, *_, eleventh = np.argsort(-reference)[:11]
    changed = reference.copy()
    changed[[first, eleventh]] = reference[[eleventh, first]]
    found = measure(scorer, prompted(changed), [asked])
    assert (found.overlap, found.order) == (0.9, 0.0)
    assert found.score_error == pytest.approx(reference[first] - reference[eleventh])
    logits = [log(score / (1 - score)) for score in (reference[first], reference[eleventh])]
    assert found.logit_error == pytest.approx(logits[0] - logits[1])


def test_two_of_the_ten_in_each_others_place_are_the_same_ten_in_another_order(scorer: Scorer) -> None:
    (asked,) = shelf(scorer, users=1)
    changed = scorer.score(asked.query, asked.table, asked.rows)
    second, third = np.argsort(-changed)[1:3]
    changed[[second, third]] = changed[[third, second]]
    found = measure(scorer, prompted(changed), [asked])
    assert (found.overlap, found.order) == (1.0, 0.0)


def test_apps_that_the_reference_tells_apart_by_rounding_alone_may_change_places(bundle: Bundle) -> None:
    weights = {name: torch.zeros_like(weight) for name, weight in bundle.weights.items()}
    scorer = Scorer.of(replace(bundle, weights=weights))
    (asked,) = shelf(scorer, users=1)
    changed = scorer.score(asked.query, asked.table, asked.rows) + np.linspace(0, 1e-7, APP_COUNT)
    found = measure(scorer, prompted(changed), [asked])
    assert (found.overlap, found.order) == (1.0, 1.0)


def test_an_agreement_is_the_mean_of_its_requests_and_the_worst_of_its_errors(scorer: Scorer) -> None:
    asked = shelf(scorer, users=3)
    fixed = scorer.score(asked[0].query, asked[0].table, asked[0].rows)
    alone = [measure(scorer, prompted(fixed), [one]) for one in asked]
    found = measure(scorer, prompted(fixed), asked)
    assert found.overlap == pytest.approx(np.mean([one.overlap for one in alone]))
    assert found.order == pytest.approx(np.mean([one.order for one in alone]))
    assert found.score_error == max(one.score_error for one in alone)
    assert found.logit_error == max(one.logit_error for one in alone)


def test_nothing_asked_is_no_agreement() -> None:
    found = measure(cast(Scorer, None), prompted(np.empty(0)), [])
    assert (isnan(found.overlap), found.score_error, found.logit_error, found.requests) == (True, inf, inf, 0)


def test_the_logit_error_is_the_largest_over_every_query_and_row(scorer: Scorer) -> None:
    asked = shelf(scorer, users=6)
    rows = np.array([3, 7, 11, 19])
    fast, largest = FastScorer(scorer, precision=Precision.FAST, error=0.0), 0.0
    for one in asked:
        mine = fast.scores(Ask(fast.encode(one.query), one.table, torch.from_numpy(rows), 10))
        for score, reference in zip(np.asarray(mine), scorer.score(one.query, one.table, rows), strict=True):
            apart = log(score / (1 - score)) - log(reference / (1 - reference))
            largest = max(largest, abs(apart))
    found = logit_error(scorer, [replace(one, rows=rows) for one in asked])
    assert found == pytest.approx(largest, rel=1e-6)
    assert found > 0


def test_a_logit_error_of_nothing_or_of_no_number_is_infinite(scorer: Scorer, bundle: Bundle) -> None:
    (asked,) = shelf(scorer, users=1)
    assert logit_error(scorer, []) == inf
    assert logit_error(scorer, [replace(asked, rows=asked.rows[:0])]) == inf
    nan = {name: torch.full_like(weight, float("nan")) for name, weight in bundle.weights.items()}
    broken = Scorer.of(replace(bundle, weights=nan))
    assert logit_error(broken, [Asked(asked.query, broken.table([App("com.app1")]), np.array([0]))]) == inf


def named(checks: Sequence[Check]) -> dict[str, Check]:
    return {check.name: check for check in checks}


@pytest.fixture
def with_bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a processor that has it; torch computes in bf16 on every other one too, only slower."""
    for module in ("model.precision_checks", "model.fast_scorer"):
        monkeypatch.setattr(f"{module}.best_dtype", lambda: torch.bfloat16)


@pytest.mark.usefixtures("with_bf16")
def test_a_net_that_bf16_follows_passes_both_checks_and_the_detail_tells_all_of_it(scorer: Scorer) -> None:
    checks = named(precision_checks(scorer, shelf(scorer), limits=LIMITS))
    assert {check.outcome for check in checks.values()} == {"passed"}
    order = checks[ORDER]
    assert order.limit == 0.98
    assert float(order.observed or 0) == pytest.approx(1.0, abs=0.02)
    for told in (
        "of the reference's 10 that fast keeps in 20 requests",
        "in the same order",
        "scores within",
        "logits",
    ):
        assert told in order.detail
    assert checks[EXACT].observed is not None
    assert str(checks[EXACT].observed).startswith("20 of 20 requests, scores within ")


@pytest.mark.usefixtures("with_bf16")
@pytest.mark.parametrize("setting", ["auto", "exact"])
def test_where_bf16_disagrees_exact_serves_and_nobody_is_refused(odd: Scorer, setting: PrecisionSetting) -> None:
    checks = named(precision_checks(odd, shelf(odd), limits=Limits(precision=setting)))
    assert (checks[ORDER].outcome, checks[EXACT].outcome) == ("skipped", "passed")
    assert float(checks[ORDER].observed or 0) < 0.98
    assert checks[ORDER].detail.endswith("; exact serves")


@pytest.mark.usefixtures("with_bf16")
def test_where_bf16_disagrees_a_version_that_must_serve_fast_is_refused_by_name(odd: Scorer, dataset: Dataset) -> None:
    checks = judge(odd, odd, dataset, limits=Limits(precision="fast"))
    assert [check.name for check in checks if check.outcome == "failed"] == [ORDER]
    checks = judge(odd, odd, dataset, limits=Limits(precision="auto"))
    assert [check.name for check in checks if check.outcome == "failed"] == []


def test_exact_that_is_not_the_reference_is_a_failed_check(scorer: Scorer) -> None:
    asked = shelf(scorer, users=2)
    right = scorer.score(asked[0].query, asked[0].table, asked[0].rows)
    wrong = measure(scorer, prompted(right + 1e-4), asked[:1])
    assert (exact_check(wrong, LIMITS).outcome, wrong.order) == ("failed", 1.0)
    moved = right.copy()
    moved[np.argsort(-right)[:2]] = right[np.argsort(-right)[1::-1]]
    check = exact_check(measure(scorer, prompted(moved), asked[:1]), LIMITS)
    assert (check.outcome, str(check.observed)[:15]) == ("failed", "0 of 1 requests")
    assert exact_check(measure(scorer, prompted(right), asked[:1]), LIMITS).outcome == "passed"


@pytest.mark.parametrize(("setting", "outcome"), [("auto", "skipped"), ("exact", "skipped"), ("fast", "failed")])
def test_an_agreement_under_the_limit_fails_only_where_fast_is_what_serves(
    scorer: Scorer, setting: PrecisionSetting, outcome: str
) -> None:
    found = replace(measure(scorer, prompted(np.empty(0)), []), overlap=0.97, requests=50)
    assert order_check(found, Limits(precision=setting)).outcome == outcome
    assert order_check(replace(found, overlap=0.98), Limits(precision=setting)).outcome == "passed"


@pytest.mark.parametrize(("setting", "serves"), [("auto", "exact serves"), ("fast", "fast serves unproven")])
def test_a_processor_without_bf16_cannot_judge_fast_and_says_so(
    scorer: Scorer, setting: PrecisionSetting, serves: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("model.precision_checks", "model.fast_scorer"):
        monkeypatch.setattr(f"{module}.best_dtype", lambda: torch.float32)
    checks = named(precision_checks(scorer, shelf(scorer, users=2), limits=Limits(precision=setting)))
    assert (checks[ORDER].outcome, checks[ORDER].observed, checks[EXACT].outcome) == ("skipped", None, "passed")
    assert "this processor has no bf16" in checks[ORDER].detail
    assert serves in checks[ORDER].detail


def test_an_empty_shelf_is_judged_by_nobody(scorer: Scorer) -> None:
    for asked in ([], shelf(scorer, users=2, apps=0)):
        checks = precision_checks(scorer, asked, limits=LIMITS)
        assert [(check.name, check.outcome) for check in checks] == [(ORDER, "skipped"), (EXACT, "skipped")]
