"""In which precision a version serves: nothing but the setting and the gate's report decides it."""

import logging
from itertools import product

import pytest

from model.fast_scorer import Precision
from model.precision_checks import ORDER
from model.report import Check, GateReport, PrecisionSetting
from service.errors import StoreUnavailable
from service.precision import Resolver, judged_for, reason, resolve

VERSION = "20261120T194846Z-1a2b3c"
PASSED = Check.at_least(ORDER, 0.99, limit=0.98, detail="")
UNDER = Check(ORDER, "skipped", 0.9, 0.98, "exact serves")
FAILED = Check.at_least(ORDER, 0.9, limit=0.98, detail="")
NO_BF16 = Check.skipped(ORDER, "this processor has no bf16")
SETTINGS: tuple[PrecisionSetting, ...] = ("auto", "exact", "fast")


def report(*checks: Check) -> GateReport:
    return GateReport(VERSION, "popularity", "now", (Check.at_most("auc", 0, limit=1, detail=""), *checks))


REPORTS = {
    "none": None,
    "of a release before": report(),
    "passed": report(PASSED),
    "under the limit": report(UNDER),
    "failed": report(FAILED),
    "no bf16": report(NO_BF16),
}


def test_auto_is_fast_only_where_the_gate_has_shown_that_it_agrees() -> None:
    found = {name: resolve("auto", one) for name, one in REPORTS.items()}
    assert found == dict.fromkeys(REPORTS, Precision.EXACT) | {"passed": Precision.FAST}


@pytest.mark.parametrize("setting", ["exact", "fast"])
def test_a_precision_that_is_set_is_never_changed_whatever_a_report_says(setting: PrecisionSetting) -> None:
    assert {resolve(setting, one) for one in REPORTS.values()} == {Precision(setting)}


def test_the_same_setting_and_report_always_resolve_alike() -> None:
    for setting, one in product(SETTINGS, REPORTS.values()):
        assert len({resolve(setting, one) for _ in range(3)}) == 1


def test_the_reason_names_the_setting_or_the_check() -> None:
    assert reason("auto", REPORTS["passed"]) == "the gate's order_agreement passed"
    assert reason("auto", REPORTS["under the limit"]) == "the gate's order_agreement skipped"
    assert reason("auto", None) == "no gate report has an order_agreement"
    assert reason("exact", REPORTS["passed"]) == "the setting says so"
    assert reason("fast", REPORTS["passed"]) == "the setting says so"
    assert (
        reason("fast", REPORTS["under the limit"]) == "the setting says so, though the gate's order_agreement skipped"
    )


def test_a_report_that_let_fast_disagree_does_not_hold_once_fast_is_set() -> None:
    told = {name: judged_for("fast", one) for name, one in REPORTS.items() if one}
    assert told == {
        "of a release before": False, "passed": True, "under the limit": False, "failed": True, "no bf16": True
    }  # fmt: skip
    assert all(judged_for(setting, one) for setting, one in product(SETTINGS[:2], REPORTS.values()) if one)


def test_every_decision_is_a_line_of_the_log_with_its_reason(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert Resolver("auto", lambda version: report(PASSED))(VERSION) is Precision.FAST
    assert caplog.messages == [f"version {VERSION} is to serve in precision fast: the gate's order_agreement passed"]


@pytest.mark.parametrize(("setting", "serves"), [("auto", "exact"), ("exact", "exact"), ("fast", "fast")])
def test_without_the_store_nobody_guesses_and_auto_is_exact(
    setting: PrecisionSetting, serves: str, caplog: pytest.LogCaptureFixture
) -> None:
    def away(_: str) -> None:
        raise StoreUnavailable("redis", "refused")

    caplog.set_level(logging.INFO)
    assert Resolver(setting, away)(VERSION) == serves
    assert "the store is away" in caplog.text
