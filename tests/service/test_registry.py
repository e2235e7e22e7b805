from collections.abc import Iterator
from pathlib import Path

import pytest

from model.manifest import Manifest
from model.report import Check, GateReport
from service.bundles import LocalBundles
from service.errors import (
    GateRefused,
    IllegalTransition,
    NothingToPromote,
    NothingToRollBack,
    UnknownVersion,
    VersionExists,
)
from service.registry import Registry
from service.states import State
from service.store.ports import Note
from tests.service.clock import Clock
from tests.service.store.backends import BACKENDS, Place
from tests.service.store.entries import NEW, NOTE, OLD

THIRD = "20261103T000000Z-00000c"


class Stocked(LocalBundles):
    """A folder that is said to hold every bundle but those that are gone."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.gone: set[str] = set()

    def holds(self, version: str) -> bool:
        return version not in self.gone


@pytest.fixture
def bundles(tmp_path: Path) -> Stocked:
    return Stocked(tmp_path / "bundles")


@pytest.fixture(params=["sqlite", "redis"])
def registry(request: pytest.FixtureRequest, tmp_path: Path, bundles: Stocked) -> Iterator[Registry]:
    with BACKENDS[request.param](Place(tmp_path, request), Clock()) as backend:
        yield Registry(backend.index, bundles)


def manifest(version: str) -> Manifest:
    return Manifest(
        version=version,
        created_at="2026-11-01T00:00:00+00:00",
        architecture="wide_deep",
        params={},
        config={},
        recipe="paper",
        schema_fingerprint="f",
        parent=None,
        facts={},
        metrics={"auc": 0.75},
        sampling_rate=1.0,
    )


def report(version: str, *, against: str = "popularity", passed: bool = True) -> GateReport:
    check = Check.at_least("auc", 0.75 if passed else 0.5, limit=0.7, detail="")
    return GateReport(version, against, "2026-11-01T00:00:00+00:00", (check,))


def passed(registry: Registry, version: str, *, against: str = "popularity") -> None:
    registry.register(manifest(version), note=NOTE)
    registry.record(report(version, against=against), note=NOTE)


def took_live(registry: Registry, version: str) -> None:
    passed(registry, version)
    registry.go_live(version, note=NOTE)


def test_a_registered_bundle_is_a_challenger(registry: Registry) -> None:
    registry.register(manifest(OLD), note=NOTE)

    entry = registry.get(OLD)

    assert (entry.state, entry.architecture, entry.metrics) == (State.CHALLENGER, "wide_deep", {"auc": 0.75})
    with pytest.raises(VersionExists):
        registry.register(manifest(OLD), note=NOTE)


def test_a_version_that_is_not_there_is_refused_by_name(registry: Registry) -> None:
    with pytest.raises(UnknownVersion, match=f"'{NEW}' is not in the registry; `appshelf versions`"):
        registry.get(NEW)


def test_a_folder_is_that_of_a_registered_version_only(registry: Registry, tmp_path: Path) -> None:
    registry.register(manifest(OLD), note=NOTE)

    assert registry.folder(OLD) == tmp_path / "bundles" / OLD
    with pytest.raises(UnknownVersion):
        registry.folder("../secrets")


@pytest.mark.parametrize("text", ["", "..", "\udcff", OLD + "\n", OLD + "\x00", "x" * 99_999])
def test_what_is_no_version_is_unknown_whatever_bytes_it_has(registry: Registry, text: str) -> None:
    with pytest.raises(UnknownVersion) as refused:
        registry.get(text)
    str(refused.value).encode()


def test_a_report_decides_the_state_and_is_kept(registry: Registry) -> None:
    for version, verdict in ((OLD, True), (NEW, False)):
        registry.register(manifest(version), note=NOTE)
        registry.record(report(version, passed=verdict), note=NOTE)

    assert [entry.state for entry in registry.versions()] == [State.PASSED, State.REJECTED]
    kept = registry.get(NEW).report
    assert kept is not None
    assert GateReport.from_json(kept) == report(NEW, passed=False)


def test_a_version_judged_again_takes_the_new_verdict(registry: Registry) -> None:
    passed(registry, OLD)

    registry.record(report(OLD, passed=False), note=NOTE)

    assert registry.get(OLD).state is State.REJECTED
    assert [entry.to for entry in registry.history()] == [
        State.CHALLENGER,
        State.PASSED,
        State.CHALLENGER,
        State.REJECTED,
    ]


@pytest.mark.parametrize("verdict", [True, False])
def test_a_retired_version_judged_again_stays_the_one_to_roll_back_to(registry: Registry, verdict: bool) -> None:
    took_live(registry, OLD)
    took_live(registry, NEW)
    registry.check_judgeable(OLD)

    registry.record(report(OLD, against=NEW, passed=verdict), note=NOTE)

    assert registry.get(OLD).state is State.RETIRED
    assert registry.verdict(OLD) == report(OLD, against=NEW, passed=verdict)
    assert registry.previous_live() == OLD
    registry.go_live(OLD, note=NOTE)
    assert registry.live() == OLD


def test_judging_an_older_retired_version_does_not_change_which_one_a_rollback_takes(registry: Registry) -> None:
    for version in (OLD, NEW, THIRD):
        took_live(registry, version)

    registry.record(report(OLD, against=THIRD), note=NOTE)

    assert registry.previous_live() == NEW


def test_the_live_version_stays_live_whatever_a_report_says(registry: Registry) -> None:
    took_live(registry, OLD)

    with pytest.raises(IllegalTransition, match="live and cannot become challenger"):
        registry.record(report(OLD, passed=False), note=NOTE)

    assert registry.live() == OLD


def test_a_version_has_no_verdict_until_it_is_judged(registry: Registry) -> None:
    registry.register(manifest(OLD), note=NOTE)
    unjudged = registry.verdict(OLD)
    registry.record(report(OLD), note=NOTE)

    assert unjudged is None
    assert registry.verdict(OLD) == report(OLD)


def test_a_kill_within_a_new_judgement_leaves_no_old_verdict_standing(registry: Registry) -> None:
    passed(registry, OLD)

    class Killed(BaseException):
        pass

    def killed(*_: object, **__: object) -> str:
        raise Killed

    worse = report(OLD, passed=False)
    object.__setattr__(worse, "to_json", killed)
    with pytest.raises(Killed):
        registry.record(worse, note=NOTE)

    assert registry.get(OLD).report is not None
    assert registry.verdict(OLD) is None


def test_the_newest_that_passed_is_the_one_to_promote(registry: Registry) -> None:
    passed(registry, OLD)
    passed(registry, NEW)
    registry.register(manifest(THIRD), note=NOTE)

    assert registry.newest_passed() == NEW


def test_a_version_whose_bundle_is_gone_is_not_promoted_unnamed(registry: Registry, bundles: Stocked) -> None:
    passed(registry, OLD)
    passed(registry, NEW)
    bundles.gone.add(NEW)

    assert registry.newest_passed() == OLD


def test_a_version_older_than_live_is_not_promoted_unnamed(registry: Registry) -> None:
    passed(registry, OLD)
    took_live(registry, NEW)

    with pytest.raises(NothingToPromote, match=NEW):
        registry.newest_passed()


def test_without_a_version_there_is_nothing_to_promote_or_roll_back(registry: Registry) -> None:
    with pytest.raises(NothingToPromote):
        registry.newest_passed()
    with pytest.raises(NothingToRollBack):
        registry.previous_live()


def test_the_version_before_is_the_one_that_live_replaced(registry: Registry) -> None:
    for version in (OLD, NEW, THIRD):
        took_live(registry, version)

    assert registry.previous_live() == NEW


def test_two_rollbacks_end_where_they_began(registry: Registry) -> None:
    took_live(registry, OLD)
    took_live(registry, NEW)

    for _ in range(2):
        registry.go_live(registry.previous_live(), note=NOTE)

    assert registry.live() == NEW


def test_a_version_that_broke_off_may_be_judged_again(registry: Registry) -> None:
    registry.register(manifest(OLD), note=NOTE)
    registry.fail(OLD, note=Note("gate", "killed for memory"))

    registry.record(report(OLD), note=NOTE)

    assert registry.get(OLD).state is State.PASSED


def test_an_index_is_rebuilt_from_the_manifests(registry: Registry, tmp_path: Path) -> None:
    registry.register(manifest(OLD), note=NOTE)
    for version in (OLD, NEW, THIRD):
        folder = tmp_path / "bundles" / version
        folder.mkdir(parents=True)
        (folder / "manifest.json").write_text(manifest(version).sealed().to_json())
    (tmp_path / "bundles" / f".{THIRD}.partial").mkdir()

    assert registry.rebuild(note=NOTE) == (NEW, THIRD)
    assert registry.rebuild(note=NOTE) == ()
    assert [entry.state for entry in registry.versions()] == [State.CHALLENGER] * 3


def test_a_refusal_names_the_checks_that_failed() -> None:
    refusal = GateRefused(report(OLD, passed=False))

    assert f"version '{OLD}' was refused by the gate (auc 0.5, limit 0.7)" in str(refusal)
    assert f"judged against {refusal.report.against};" in str(refusal)
    assert refusal.report.failures


def test_a_refusal_says_what_a_check_saw_of_the_rows() -> None:
    check = Check.at_least("auc", -0.2, limit=-0.01, detail="0.45 against 0.48, gain -0.03 (95 %: -0.2 to +0.15)")
    refusal = GateRefused(GateReport(OLD, "popularity", "2026-11-01T00:00:00+00:00", (check,)))

    assert "(auc -0.2, limit -0.01: 0.45 against 0.48, gain -0.03 (95 %: -0.2 to +0.15))" in str(refusal)
