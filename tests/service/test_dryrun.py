"""The dry run in its own process: real bundles, real crashes."""

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from model.bundle import Bundle, save
from model.report import Check, Limits
from service.dryrun import CHILD, dry_run, peak_mib
from tests.model.stores import LATER, bundle_of, store

LIMITS = Limits()


@pytest.fixture(scope="module")
def whole() -> Bundle:
    return bundle_of(store(requests=70))


@pytest.fixture
def live(whole: Bundle, tmp_path: Path) -> Path:
    return save(whole, tmp_path)


def challenger(bundle: Bundle, beside: Path) -> Path:
    return save(replace(bundle, manifest=bundle.manifest.model_copy(update={"version": LATER})), beside.parent)


def failed(checks: Sequence[Check]) -> set[str]:
    return {check.name for check in checks if check.outcome == "failed"}


def test_a_bundle_equal_to_live_passes_every_check(whole: Bundle, live: Path) -> None:
    checks = dry_run(challenger(whole, live), live, limits=LIMITS)
    assert {check.outcome for check in checks} == {"passed"}
    assert {"integrity", "load_time", "memory", "golden_scores", "latency"} <= {check.name for check in checks}


def test_weights_that_are_not_numbers_are_refused_by_name(whole: Bundle, live: Path) -> None:
    weights = {name: torch.full_like(weight, float("nan")) for name, weight in whole.weights.items()}
    assert "finite_weights" in failed(dry_run(challenger(replace(whole, weights=weights), live), live, limits=LIMITS))


def test_a_net_that_is_far_slower_than_live_is_refused_by_name(whole: Bundle, live: Path) -> None:
    slow = bundle_of(store(requests=70), version=LATER, params={"dim": 32, "hidden": (2048, 2048, 2048)})
    assert failed(dry_run(save(slow, live.parent), live, limits=LIMITS)) == {"latency"}


def test_a_bundle_that_cannot_be_scored_is_a_failed_load_with_its_last_words(whole: Bundle, live: Path) -> None:
    misfit = {**whole.weights, "wide.bias": torch.zeros(7)}
    (check,) = dry_run(challenger(replace(whole, weights=misfit), live), live, limits=LIMITS)
    assert (check.name, check.outcome) == ("load", "failed")
    assert "wide.bias" in str(check.observed)


def test_limits_reach_the_other_process(live: Path) -> None:
    assert failed(dry_run(live, None, limits=Limits(load_s=1e-9))) == {"load_time"}


def test_a_dry_run_that_does_not_end_is_a_failed_load(live: Path) -> None:
    (check,) = dry_run(live, None, limits=LIMITS, child=replace(CHILD, timeout_s=0.01))
    assert (check.name, check.outcome, check.observed) == ("load", "failed", "no end within 0.01 s")


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", "ended with -9: without a word"),
        ("raise SystemExit('out of memory')", "ended with 1: out of memory"),
        ("print('ready')", "no list of checks"),
        ("print('[{}]')", "no list of checks"),
    ],
)
def test_a_process_that_does_not_answer_with_checks_is_a_failed_load(script: str, words: str) -> None:
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    (check,) = CHILD.answered(ended)
    assert (check.name, check.outcome) == ("load", "failed")
    assert words in str(check.observed)


def test_memory_is_measured_in_mib() -> None:
    assert 10 < peak_mib() < 100_000
