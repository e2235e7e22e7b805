"""A version's life where bundles are shared: what is known of it is the store's, and its bytes are the storage's."""

from dataclasses import replace
from pathlib import Path

import pytest

from model.bundle import load, save, verify
from service.bundles import LocalBundles, SharedBundles
from service.container import Container, build
from service.errors import BundlesUnavailable, NothingToPromote
from service.lifecycle import enter_orphans, gate_version, promote_version, roll_back
from service.remote import RemoteFolder
from service.retention import collect
from service.states import State
from service.store.ports import Note
from tests.service.store_front import LIVE, MISSING_ITS_GOLDEN, PASSED, REJECTED, settings
from tests.service.test_bundles import NOWHERE

NOTE = Note("test", "because")
UNSEEN = "20260202T000000Z-cccccc"


def sharing(home: Path, url: str) -> Container:
    return build(settings(home).model_copy(update={"bundles_url": url}))


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"file://{tmp_path}/shared"


@pytest.fixture
def container(home: Path, url: str) -> Container:
    """A home that had its bundles to itself until now."""
    container = sharing(home, url)
    assert enter_orphans(container) == ()
    return container


@pytest.fixture
def away(home: Path, monkeypatch: pytest.MonkeyPatch) -> Container:
    """A home whose storage does not answer."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"):
        monkeypatch.setenv(name, "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", NOWHERE)
    return sharing(home, "s3://bucket/prefix")


def seal(container: Container, version: str) -> None:
    """What a trainer leaves that is killed before it publishes."""
    bundle = load(container.home.bundles / PASSED)
    sealed = replace(bundle, manifest=bundle.manifest.model_copy(update={"version": version}))
    save(sealed, container.home.bundles)


def forget_copies(container: Container) -> None:
    for version in LocalBundles(container.home.bundles).names():
        LocalBundles(container.home.bundles).discard(version)


def test_what_a_home_had_to_itself_is_published_by_the_first_command(container: Container, url: str) -> None:
    elsewhere = SharedBundles(url, container.home.root / "elsewhere")
    assert set(elsewhere.names()) >= {LIVE, PASSED, REJECTED}
    verify(elsewhere.fetch(LIVE))


def test_what_a_killed_trainer_sealed_is_published_before_it_is_entered(container: Container, url: str) -> None:
    seal(container, UNSEEN)
    assert enter_orphans(container) == (UNSEEN,)
    assert SharedBundles(url, container.home.root / "elsewhere").holds(UNSEEN)


def test_a_damaged_one_among_what_was_sealed_here_does_not_stop_the_others(container: Container) -> None:
    for version in ("20260201T000000Z-cccccc", UNSEEN):
        seal(container, version)
    (container.home.bundles / "20260201T000000Z-cccccc" / "golden.jsonl").write_text("")
    assert enter_orphans(container) == (UNSEEN,)


def test_a_machine_without_copies_serves_what_is_live(container: Container) -> None:
    forget_copies(container)
    assert container.prepare(LIVE).version == LIVE


def test_a_bundle_that_is_damaged_on_the_storage_is_rejected_naming_the_file(container: Container, url: str) -> None:
    forget_copies(container)
    RemoteFolder(url).write(f"{PASSED}/weights.safetensors", b"garbled")
    report = gate_version(container, PASSED)
    assert [(check.name, check.outcome) for check in report.checks] == [("integrity", "failed")]
    assert f"{url}/{PASSED}/weights.safetensors" in str(report.checks[0].observed)
    assert container.registry.get(PASSED).state is State.REJECTED


def test_what_another_machine_discarded_is_not_promoted(container: Container, url: str) -> None:
    elsewhere = SharedBundles(url, container.home.root / "elsewhere")
    assert container.registry.newest_passed() == MISSING_ITS_GOLDEN
    elsewhere.discard(MISSING_ITS_GOLDEN)
    assert container.registry.newest_passed() == PASSED
    elsewhere.discard(PASSED)
    with pytest.raises(NothingToPromote):
        container.registry.newest_passed()


def test_retention_removes_what_is_old_from_the_storage(container: Container, url: str) -> None:
    gone = collect(container.registry, container.coordinator, keep=1)
    assert {PASSED, REJECTED} <= set(gone)
    assert set(RemoteFolder(url).names()).isdisjoint(gone)
    assert set(LocalBundles(container.home.bundles).names()).isdisjoint(gone)
    assert container.bundles.holds(LIVE)


def test_retention_comes_back_to_what_a_killed_one_discarded_by_half(container: Container, url: str) -> None:
    RemoteFolder(url).remove(f"{REJECTED}/manifest.json")
    assert REJECTED in collect(container.registry, container.coordinator, keep=1)
    assert REJECTED not in RemoteFolder(url).names()


def test_with_the_storage_away_commands_go_on_and_copies_are_served_promoted_and_gone_back_to(away: Container) -> None:
    assert enter_orphans(away) == ()
    assert collect(away.registry, away.coordinator, keep=1) == []
    assert away.prepare(LIVE).version == LIVE
    promote_version(away, PASSED, note=NOTE)
    assert roll_back(away, note=NOTE).version == LIVE


def test_with_the_storage_away_nothing_is_entered_that_others_could_not_fetch(away: Container) -> None:
    seal(away, UNSEEN)
    manifest = load(away.home.bundles / UNSEEN).manifest
    with pytest.raises(BundlesUnavailable):
        away.registry.register(manifest, note=NOTE)
    assert UNSEEN not in {entry.version for entry in away.registry.versions()}
