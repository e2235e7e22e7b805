"""The dry run in its own process: real bundles, real crashes."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from threading import Thread

import psutil
import pytest
import torch

from model.bundle import Bundle, save
from model.report import Check, Limits
from service.child import Child
from service.dryrun import CHILD, dry_run, peak_mib
from service.errors import JudgingBrokeOff
from service.trial import Trial
from tests.model.stores import LATER, bundle_of, store
from tests.service.wire import soon

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
    checks = dry_run(Trial(challenger(whole, live), live, LIMITS))
    assert {check.outcome for check in checks} == {"passed"}
    assert {"integrity", "load_time", "memory", "golden_scores", "latency"} <= {check.name for check in checks}


def test_weights_that_are_not_numbers_are_refused_by_name(whole: Bundle, live: Path) -> None:
    weights = {name: torch.full_like(weight, float("nan")) for name, weight in whole.weights.items()}
    assert "finite_weights" in failed(dry_run(Trial(challenger(replace(whole, weights=weights), live), live, LIMITS)))


def test_a_net_that_is_far_slower_than_live_is_refused_by_name(whole: Bundle, live: Path) -> None:
    slow = bundle_of(store(requests=70), version=LATER, params={"dim": 32, "hidden": (2048, 2048, 2048)})
    assert failed(dry_run(Trial(save(slow, live.parent), live, LIMITS))) == {"latency"}


def test_a_bundle_that_cannot_be_scored_is_a_failed_load_with_its_last_words(whole: Bundle, live: Path) -> None:
    misfit = {**whole.weights, "wide.bias": torch.zeros(7)}
    (check,) = dry_run(Trial(challenger(replace(whole, weights=misfit), live), live, LIMITS))
    assert (check.name, check.outcome) == ("load", "failed")
    assert "wide.bias" in str(check.observed)


def test_limits_reach_the_other_process(live: Path) -> None:
    assert failed(dry_run(Trial(live, None, Limits(load_s=1e-9)))) == {"load_time"}


def test_a_dry_run_that_does_not_end_is_a_failed_load(live: Path) -> None:
    (check,) = dry_run(Trial(live, None, LIMITS), child=replace(CHILD, timeout_s=0.01))
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


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_process_that_someone_ends_says_nothing_about_the_version(name: str) -> None:
    script = f"import os, signal; signal.signal(signal.{name}, signal.SIG_DFL); os.kill(os.getpid(), signal.{name})"
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False)
    with pytest.raises(JudgingBrokeOff, match=f"the check load was ended by {name}; nothing is recorded"):
        CHILD.answered(ended)


def children() -> list[psutil.Process]:
    """The running processes that judge for this one; a whole run of tests has other children too."""
    return [one for one in psutil.Process().children() if judges(one)]


def judges(process: psutil.Process) -> bool:
    with suppress(psutil.Error):  # a process that has ended meanwhile
        return JUDGING_FOR_EVER.module in process.cmdline()
    return False


JUDGING_FOR_EVER = Child("tests.service.endless", name="load", timeout_s=120)


def test_a_terminals_signal_does_not_reach_the_process_that_judges() -> None:
    apart: list[bool] = []

    def look_and_end() -> None:
        assert soon(lambda: bool(children()))
        (child,) = children()
        apart.append(os.getpgid(child.pid) != os.getpgid(0))
        child.send_signal(signal.SIGTERM)

    looking = Thread(target=look_and_end)
    looking.start()
    with pytest.raises(JudgingBrokeOff):
        JUDGING_FOR_EVER.checks([])
    looking.join()
    assert apart == [True]


@pytest.fixture
def interruptible() -> Iterator[None]:
    """What is started in the background of a shell ignores SIGINT from the start, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("interruptible")
def test_a_judge_is_ended_when_this_process_is_interrupted() -> None:
    def interrupt() -> None:
        assert soon(lambda: bool(children()))
        os.kill(os.getpid(), signal.SIGINT)

    interrupting = Thread(target=interrupt)
    interrupting.start()
    with pytest.raises(KeyboardInterrupt):
        JUDGING_FOR_EVER.checks([])
    interrupting.join()
    assert soon(lambda: children() == [])


KILLED_WHILE_JUDGING = """
from tests.service.test_dryrun import JUDGING_FOR_EVER
JUDGING_FOR_EVER.checks([])
"""


def test_a_judge_ends_when_the_process_that_asked_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", KILLED_WHILE_JUDGING]) as asking:
        assert soon(lambda: bool(psutil.Process(asking.pid).children()))
        (judge,) = psutil.Process(asking.pid).children()
        asking.kill()
    assert soon(lambda: not judge.is_running() or judge.status() == psutil.STATUS_ZOMBIE)


def test_memory_is_measured_in_mib() -> None:
    assert 10 < peak_mib() < 100_000
