"""The dry run's checks on real bundles and real nets; time and memory come from the test."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from model.bundle import Bundle, save
from model.fast_scorer import Ask, Best, FastScorer, Precision
from model.rehearsal import ROUNDS, Act, Meters, best_times, golden_checks, latency_check, rehearse
from model.report import Check, Limits, PrecisionSetting
from model.schema import FeatureSchema
from model.scorer import Scorer
from tests.model.stores import LATER, SCHEMA, bundle_of, prove, store

LIMITS = Limits()


class Ticking:
    """A clock that goes on by a second each time it is read, and by whatever work says it took."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 1.0
        return self.now

    def work(self, seconds: float) -> Callable[[], None]:
        def run() -> None:
            self.now += seconds

        return run


@pytest.fixture(scope="module")
def whole() -> Bundle:
    return bundle_of(store(requests=70))


def rehearsed(bundle: Bundle, folder: Path, *, live: Bundle | None = None, limits: Limits = LIMITS) -> dict[str, Check]:
    meters = Meters(clock=Ticking(), peak_mib=iter([100.0, 160.0]).__next__)
    live_folder = save(with_version(live, LATER), folder) if live else None
    checks = rehearse(save(bundle, folder), live_folder, limits=limits, meters=meters)
    return {check.name: check for check in checks}


def failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if check.outcome == "failed"}


def with_version(bundle: Bundle, version: str) -> Bundle:
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"version": version}))


def with_app_weights(bundle: Bundle, change: Callable[[torch.Tensor], torch.Tensor]) -> Bundle:
    """The bundle with its apps' weights changed after its golden requests were scored."""
    return replace(bundle, weights={**bundle.weights, "wide.app.table": change(bundle.weights["wide.app.table"])})


def test_a_sound_bundle_passes_every_check_beside_live(whole: Bundle, tmp_path: Path) -> None:
    checks = rehearsed(whole, tmp_path, live=whole)
    assert {check.outcome for check in checks.values()} == {"passed"}
    assert list(checks) == [
        "integrity",
        "finite_weights",
        "load_time",
        "memory",
        "golden_finite",
        "golden_scores",
        "golden_spread",
        "golden_exact",
        "request_contract",
        "latency",
    ]
    assert (checks["load_time"].observed, checks["memory"].observed) == (1.0, 60.0)


def test_the_first_version_has_no_live_one_to_be_held_against(whole: Bundle, tmp_path: Path) -> None:
    checks = rehearsed(whole, tmp_path)
    assert {checks["latency"].outcome, checks["request_contract"].outcome} == {"skipped"}
    assert failed(checks) == set()


def test_weights_that_are_not_numbers_fail_naming_the_tensor(whole: Bundle, tmp_path: Path) -> None:
    checks = rehearsed(with_app_weights(whole, lambda w: torch.full_like(w, float("nan"))), tmp_path)
    assert {"finite_weights", "golden_finite", "golden_scores"} <= failed(checks)
    assert "wide.app.table" in checks["finite_weights"].detail


def test_weights_that_changed_since_the_golden_scores_fail_by_them(whole: Bundle, tmp_path: Path) -> None:
    assert failed(rehearsed(with_app_weights(whole, lambda w: w + 1e-3), tmp_path)) == {"golden_scores", "golden_exact"}


def test_constant_scores_fail_by_their_spread(whole: Bundle, tmp_path: Path) -> None:
    constant = prove(with_app_weights(whole, torch.zeros_like))
    assert failed(rehearsed(constant, tmp_path)) == {"golden_spread"}


def test_a_bundle_without_golden_requests_cannot_be_rehearsed(whole: Bundle, tmp_path: Path) -> None:
    assert failed(rehearsed(replace(whole, golden=()), tmp_path, live=whole)) == {"golden_scores"}


def test_a_truncated_file_fails_integrity_naming_the_file_and_nothing_else_is_tried(
    whole: Bundle, tmp_path: Path
) -> None:
    folder = save(whole, tmp_path)
    weights = folder / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    (check,) = rehearse(folder, None, limits=LIMITS, meters=Meters(Ticking(), lambda: 0.0))
    assert (check.name, check.outcome) == ("integrity", "failed")
    assert "weights.safetensors" in str(check.observed)


def test_a_newly_required_request_field_fails_the_request_contract(whole: Bundle, tmp_path: Path) -> None:
    raw = SCHEMA.model_dump(mode="json")
    fields = [{**one, "required": one["name"] == "country"} for one in raw["fields"]]
    demanding = FeatureSchema.model_validate({**raw, "fields": fields})
    checks = rehearsed(bundle_of(store(requests=70, schema=demanding)), tmp_path, live=whole)
    assert failed(checks) == {"request_contract"}
    assert checks["request_contract"].observed == "context field 'country' is newly required"


def test_a_changed_schema_that_asks_for_nothing_more_passes(whole: Bundle, tmp_path: Path) -> None:
    raw = SCHEMA.model_dump(mode="json")
    more = FeatureSchema.model_validate({**raw, "crosses": [{"fields": ["country", "app_id"], "bits": 8}]})
    assert failed(rehearsed(bundle_of(store(requests=70, schema=more)), tmp_path, live=whole)) == set()


def test_a_live_bundle_that_cannot_be_read_does_not_keep_a_sound_one_out(whole: Bundle, tmp_path: Path) -> None:
    checks = rehearse(save(whole, tmp_path), tmp_path / LATER, limits=LIMITS, meters=Meters(Ticking(), lambda: 0.0))
    assert [check.name for check in checks if check.outcome == "skipped"] == ["request_contract", "latency"]
    assert "does not exist" in checks[-1].detail


@pytest.mark.parametrize(("name", "limits"), [("load_time", {"load_s": 0.5}), ("memory", {"memory_mib": 59})])
def test_a_bundle_over_a_limit_fails_naming_it(
    whole: Bundle, tmp_path: Path, name: str, limits: dict[str, Any]
) -> None:
    assert failed(rehearsed(whole, tmp_path, limits=Limits(**limits))) == {name}


def test_weights_that_do_not_fit_the_architecture_are_for_the_process_around_it(whole: Bundle, tmp_path: Path) -> None:
    fewer = {name: weight for name, weight in whole.weights.items() if name != "wide.bias"}
    with pytest.raises(RuntimeError, match=r"wide\.bias"):
        rehearsed(replace(whole, weights=fewer), tmp_path)


def test_golden_scores_within_the_tolerance_pass(whole: Bundle) -> None:
    near = [replace(one, scores=tuple(score + 9e-6 for score in one.scores)) for one in whole.golden]
    far = [replace(one, scores=tuple(score + 2e-5 for score in one.scores)) for one in whole.golden]
    scorer = Scorer.of(whole)
    outcomes = [golden_checks(scorer, golden, limits=LIMITS)[1].outcome for golden in (near, far)]
    assert outcomes == ["passed", "failed"]


@pytest.mark.parametrize(("slower", "outcome"), [(1.0, "passed"), (2.0, "passed"), (5.0, "failed")])
def test_a_request_that_takes_five_times_as_long_fails_the_latency(whole: Bundle, slower: float, outcome: str) -> None:
    clock = Ticking()

    class Taking(Act):
        def calls(self, count: int, *, rows: int, precision: Precision) -> list[Callable[[], object]]:
            takes_s = 100.0 * (slower if self.scorer.version == "slow" else 1.0)
            return [clock.work(takes_s) for _ in super().calls(count, rows=rows, precision=precision)]

    mine, live = (Taking(replace(Scorer.of(whole), version=name), whole.golden) for name in ("slow", "live"))
    check = latency_check(mine, live, limits=LIMITS, clock=clock)
    assert (check.name, check.outcome) == ("latency", outcome)
    assert check.observed == pytest.approx(slower, rel=0.02)


def test_a_machine_that_is_busy_in_some_rounds_does_not_change_the_best_times() -> None:
    clock, rounds = Ticking(), [0]

    def disturbed() -> None:
        rounds[0] += 1
        clock.now += 3.0 if rounds[0] == ROUNDS // 2 else 900.0

    assert best_times([disturbed, clock.work(3.0)], [clock.work(3.0)] * 2, clock=clock) == (8.0, 8.0)


@pytest.mark.parametrize(("asked", "timed"), [("auto", "exact"), ("exact", "exact"), ("fast", "fast")])
def test_what_is_timed_is_what_is_to_serve_and_exact_where_the_gate_is_yet_to_say(
    whole: Bundle, asked: PrecisionSetting, timed: str
) -> None:
    act = Act(Scorer.of(whole), whole.golden)
    check = latency_check(act, act, limits=Limits(precision=asked), clock=Ticking())
    assert f"both {timed}, best of" in check.detail


def test_an_exact_precision_that_does_not_find_the_golden_scores_fails_by_name(
    whole: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    right = FastScorer.best

    def off(self: FastScorer, asks: Sequence[Ask]) -> list[Best]:
        return [Best(best.places, best.scores + 1e-4) for best in right(self, asks)]

    monkeypatch.setattr(FastScorer, "best", off)
    checks = {one.name: one for one in golden_checks(Scorer.of(whole), whole.golden, limits=LIMITS)}
    assert failed(checks) == {"golden_exact"}
    assert checks["golden_exact"].observed == pytest.approx(1e-4, rel=1e-3)
