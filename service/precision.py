"""In which precision a version serves: as it is set, or as its gate report has shown, and the log says which."""

import logging
from collections.abc import Callable

from model.fast_scorer import Precision
from model.precision_checks import ORDER
from model.report import Check, GateReport, PrecisionSetting
from service.errors import StoreUnavailable
from service.registry import verdict_of
from service.store.ports import VersionEntry

log = logging.getLogger(__name__)


def resolve(setting: PrecisionSetting, report: GateReport | None) -> Precision:
    """What a version serves in. `exact` and `fast` are taken at their word; `auto` is fast where `ORDER` passed.

    report: the newest on that version, None where there is none.
    """
    if setting != "auto":
        return Precision(setting)
    check = order_check_of(report)
    return Precision.FAST if check and check.outcome == "passed" else Precision.EXACT


def precision_of(setting: PrecisionSetting, entry: VersionEntry) -> Precision:
    """What a version of the registry serves in, or would."""
    return resolve(setting, verdict_of(entry))


def reason(setting: PrecisionSetting, report: GateReport | None) -> str:
    """Why that is what it serves in, in words for the log."""
    check = order_check_of(report)
    judged = f"the gate's {ORDER} {check.outcome}" if check else f"no gate report has an {ORDER}"
    if setting == "auto":
        return judged
    unproven = setting == "fast" and (check is None or check.outcome != "passed")
    return f"the setting says so, though {judged}" if unproven else "the setting says so"


def judged_for(setting: PrecisionSetting, report: GateReport) -> bool:
    """Whether a report holds under this setting: one that let fast disagree does not, once fast is what serves."""
    check = order_check_of(report)
    return setting != "fast" or (check is not None and (check.outcome != "skipped" or check.observed is None))


def order_check_of(report: GateReport | None) -> Check | None:
    """The report's word on fast, None where it has none, as reports of earlier releases."""
    return next((check for check in report.checks if check.name == ORDER), None) if report else None


class Resolver:
    """What a serving process serves a version in; what it decided, and why, is a line of the log."""

    def __init__(self, setting: PrecisionSetting, verdict: Callable[[str], GateReport | None]) -> None:
        self._setting: PrecisionSetting = setting
        self._verdict = verdict

    def __call__(self, version: str) -> Precision:
        """Ask for the version's report and resolve it; with the store away `auto` is exact, which is always right."""
        try:
            report = self._verdict(version)
        except StoreUnavailable:
            precision, why = resolve(self._setting, None), "the store is away, so its gate report cannot be read"
        else:
            precision, why = resolve(self._setting, report), reason(self._setting, report)
        log.info("version %s is to serve in precision %s: %s", version, precision, why)
        return precision
