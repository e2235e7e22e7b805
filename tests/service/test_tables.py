"""Tables on disk: built once for everyone, whole or not at all, and swept when nobody needs them."""

import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread

import psutil
import pytest

from model.array_folder import HEADER
from model.bundle import load
from model.scorer import Scorer
from service import stocking
from service.apart import Apart
from service.container import Container, build
from service.errors import BundlesUnavailable, ServiceError, StoreUnavailable, TableUnbuilt
from service.retention import needed
from service.settings import Settings, variable
from service.table_files import Maker, StoredTable, store_table
from service.tables import TableParts, Tables
from tests.service.preparing import nothing, table_parts, tables_of
from tests.service.store_front import APPS, LIVE, PASSED, REJECTED
from tests.service.wire import soon

OTHER = "20260202T000000Z-cccccc"
BUILDER = """
import sys
from service.apart import Apart
Apart(600).run("service.table_builder", sys.argv[1:])
"""


@pytest.fixture
def scorer(container: Container) -> Scorer:
    return Scorer.of(load(container.registry.folder(LIVE)))


@pytest.fixture
def tables(container: Container) -> Tables:
    return tables_of(container)


def stored(container: Container, version: str = LIVE) -> Path:
    """A table of a version, written by this process."""
    bundle = load(container.registry.folder(version))
    maker = Maker(Scorer.of(bundle), bundle.golden, nothing)
    return store_table(container.home.tables, maker, container.features.app_pages())


def any_will_do(_: StoredTable) -> bool:
    return True


def folders(container: Container) -> set[str]:
    return {one.name for one in container.home.tables.iterdir() if one.is_dir()}


def counted(parts: TableParts) -> tuple[TableParts, list[str]]:
    """The parts, and the versions that builders were started for."""
    builds: list[str] = []

    def bundle(version: str) -> Path:
        builds.append(version)
        return parts.bundle(version)

    return replace(parts, bundle=bundle), builds


def test_a_process_of_its_own_builds_a_table_of_the_whole_catalogue(
    container: Container, tables: Tables, scorer: Scorer
) -> None:
    assert tables.newest(scorer) is None
    built = tables.build(scorer, any_will_do)
    assert [*built.base.edition.table.ids] == APPS
    assert (built.base.sequence, built.base.origin) == (
        container.features.apps_since(0).sequence,
        container.features.apps_since(0).origin,
    )
    assert 0 < built.error < 0.1


def test_of_many_who_ask_at_once_one_builds_and_the_others_wait_for_it(container: Container, scorer: Scorer) -> None:
    parts, builds = counted(table_parts(container))
    with ThreadPoolExecutor(3) as processes:
        found = list(processes.map(lambda _: tables_of(container, parts).build(scorer, any_will_do), range(3)))
    assert builds == [LIVE]
    assert {len(one.base.edition) for one in found} == {len(APPS)}


def test_what_does_not_suit_is_built_again(container: Container, tables: Tables, scorer: Scorer) -> None:
    stored(container)
    container.features.delete_app(APPS[0])
    sequence = container.features.apps_since(0).sequence
    assert tables.build(scorer, lambda one: one.base.sequence == sequence).base.sequence == sequence
    assert len(folders(container)) == 1


def test_a_table_that_was_built_after_the_clock_was_set_back_is_the_newest(
    container: Container, tables: Tables, scorer: Scorer
) -> None:
    os.utime(stored(container), (2**33, 2**33))
    container.features.delete_app(APPS[0])
    sequence = container.features.apps_since(0).sequence
    assert tables.build(scorer, lambda one: one.base.sequence == sequence).base.sequence == sequence
    newest = tables.newest(scorer)
    assert newest
    assert (newest.base.sequence, len(folders(container))) == (sequence, 1)


def test_a_builder_that_is_killed_leaves_nothing_that_counts_and_the_next_one_sweeps_it(
    container: Container, tables: Tables, scorer: Scorer
) -> None:
    arguments = ["--bundle", str(container.registry.folder(LIVE)), "--tables", str(container.home.tables)]
    command = [sys.executable, "-c", BUILDER, *arguments, "--eager", "--rest", "1e6"]
    with subprocess.Popen(command, env={**table_parts(container).environ, "PYTHONPATH": "."}) as parent:
        assert soon(lambda: container.home.tables.exists() and len(folders(container)) == 1)
        parent.send_signal(signal.SIGKILL)
    assert all(name.endswith(".partial") for name in folders(container))
    assert tables.newest(scorer) is None
    assert len(tables.build(scorer, any_will_do).base.edition) == len(APPS)
    assert not any(name.endswith(".partial") for name in folders(container))


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="the system knows of no idle priority")
def test_beside_a_server_a_builder_gets_the_processor_only_when_it_is_idle(container: Container) -> None:
    arguments = ["--bundle", str(container.registry.folder(LIVE)), "--tables", str(container.home.tables)]
    command = [sys.executable, "-c", BUILDER, *arguments, "--rest", "1e6"]
    with subprocess.Popen(command, env={**table_parts(container).environ, "PYTHONPATH": "."}) as parent:
        assert soon(lambda: container.home.tables.exists() and len(folders(container)) == 1)
        (builder,) = psutil.Process(parent.pid).children()
        policy = os.sched_getscheduler(builder.pid)
        parent.kill()
    assert policy == os.SCHED_IDLE


def cut(folder: Path) -> None:
    file = folder / "values"
    file.write_bytes(file.read_bytes()[:-1])


def without_header(folder: Path) -> None:
    (folder / HEADER).unlink()


def garbled(folder: Path) -> None:
    for file in folder.glob("table.part.*"):
        file.write_bytes(bytes(byte ^ 0x55 for byte in file.read_bytes()))


@pytest.mark.parametrize("damage", [cut, without_header, garbled])
def test_a_damaged_table_is_not_used_and_that_is_said_in_the_log(
    container: Container, scorer: Scorer, damage: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    damage(stored(container))
    with caplog.at_level(logging.WARNING):
        assert tables_of(container).newest(scorer) is None
    assert f"an app table of version {LIVE} cannot be used and is built anew" in caplog.text


def test_a_damaged_table_is_built_anew(container: Container, tables: Tables, scorer: Scorer) -> None:
    cut(stored(container))
    assert len(tables.build(scorer, any_will_do).base.edition) == len(APPS)


def test_rows_that_another_version_made_are_not_used(container: Container, tables: Tables, scorer: Scorer) -> None:
    theirs = stored(container, PASSED)
    theirs.rename(theirs.with_name(theirs.name.replace(PASSED, LIVE)))
    assert tables.newest(scorer) is None


def test_who_is_to_end_does_not_wait_for_its_turn(container: Container, scorer: Scorer) -> None:
    holding, may_end = Event(), Event()

    def held(version: str) -> Path:
        holding.set()
        assert may_end.wait(60)
        return container.registry.folder(version)

    parts = table_parts(container)
    first = Thread(target=lambda: tables_of(container, replace(parts, bundle=held)).build(scorer, any_will_do))
    first.start()
    assert holding.wait(60)
    with pytest.raises(TableUnbuilt, match="is to end") as caught:
        tables_of(container, replace(parts, interrupted=lambda: True)).build(scorer, any_will_do)
    assert caught.value.ending
    may_end.set()
    first.join()


def test_a_builder_that_fails_is_told_of_in_its_last_words(container: Container, scorer: Scorer) -> None:
    parts = replace(table_parts(container), bundle=lambda version: container.home.root / "nothing here")
    with pytest.raises(TableUnbuilt, match=r"ended with 1: .*nothing here"):
        tables_of(container, parts).build(scorer, any_will_do)


def test_a_build_that_fails_has_cleared_away_what_a_killed_one_of_its_version_left(
    container: Container, scorer: Scorer
) -> None:
    for version in (LIVE, OTHER):
        (container.home.tables / f".{version}-00000000.partial").mkdir(parents=True)
    parts = replace(table_parts(container), bundle=lambda version: container.home.root / "nothing here")
    with pytest.raises(TableUnbuilt):
        tables_of(container, parts).build(scorer, any_will_do)
    assert folders(container) == {f".{OTHER}-00000000.partial"}


def test_a_build_that_takes_longer_than_a_rollout_has_is_given_up(container: Container, scorer: Scorer) -> None:
    with pytest.raises(TableUnbuilt, match=r"no end within 0\.01 s"):
        tables_of(container, replace(table_parts(container), within_s=0.01)).build(scorer, any_will_do)


@pytest.mark.parametrize(("in_use", "eager"), [(set(), True), ({OTHER}, False)])
def test_a_builder_steps_back_only_where_somebody_serves(
    container: Container, scorer: Scorer, in_use: set[str], eager: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []

    def run(_: Apart, module: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        started.extend(arguments)
        return subprocess.CompletedProcess([module], 1, b"", b"")

    monkeypatch.setattr(Apart, "run", run)
    with pytest.raises(TableUnbuilt):
        tables_of(container, replace(table_parts(container), in_use=lambda: in_use)).build(scorer, any_will_do)
    assert ("--eager" in started) == eager


def test_a_builder_takes_the_settings_of_the_process_that_starts_it(
    container: Container, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable("lease_timeout_s"), "50")
    monkeypatch.setenv(variable("home"), str(container.home.root))
    monkeypatch.setattr(stocking, "SMALL", 10)
    (container.home.root / "settings.json").write_text('{"poll_s": 10}')
    environs: list[Mapping[str, str] | None] = []

    def run(apart: Apart, module: str, arguments: Sequence[str]) -> subprocess.CompletedProcess[bytes]:
        environs.append(apart.environ)
        return subprocess.CompletedProcess([module, *arguments], 1, b"", b"")

    monkeypatch.setattr(Apart, "run", run)
    settings = Settings.from_env(os.environ)
    build(settings).prepare(LIVE)
    assert [Settings.from_env(environ or {}) for environ in environs] == [settings]


def test_a_full_or_forbidden_disk_is_no_table(container: Container, scorer: Scorer) -> None:
    container.home.tables.write_text("a file where the folder should be")
    with pytest.raises(TableUnbuilt, match="could not be built"):
        tables_of(container).build(scorer, any_will_do)


def test_tables_that_nobody_needs_are_swept_and_older_ones_of_versions_that_are_needed(container: Container) -> None:
    live, passed, rejected = (stored(container, version) for version in (LIVE, PASSED, REJECTED))
    container.features.delete_app(APPS[0])
    newer = stored(container, LIVE)
    parts = replace(table_parts(container), needed=lambda: {LIVE})
    assert set(tables_of(container, parts).sweep(serving=PASSED)) == {live.name, rejected.name}
    assert folders(container) == {newer.name, passed.name}


def test_what_is_served_or_may_be_gone_back_to_is_needed(container: Container) -> None:
    kept = {stored(container, version) for version in (LIVE, PASSED)}
    stored(container, REJECTED)
    parts = replace(table_parts(container), needed=lambda: needed(container.registry))
    tables_of(container, parts).sweep(serving=PASSED)
    assert folders(container) == {folder.name for folder in kept}


def test_a_table_that_is_being_built_is_not_swept(container: Container, scorer: Scorer) -> None:
    swept: list[str] = []
    parts = table_parts(container)

    def bundle(version: str) -> Path:
        (container.home.tables / f".{version}-00000000.partial").mkdir()
        swept.extend(tables_of(container, parts).sweep(serving=OTHER))
        return parts.bundle(version)

    tables_of(container, replace(parts, bundle=bundle)).build(scorer, any_will_do)
    assert swept == []


@pytest.mark.parametrize(
    "error", [StoreUnavailable("redis", "timed out"), BundlesUnavailable("s3://bucket", "timed out", advice="retry")]
)
def test_while_nobody_can_say_what_is_needed_nothing_is_swept(
    container: Container, error: ServiceError, caplog: pytest.LogCaptureFixture
) -> None:
    def away() -> set[str]:
        raise error

    stored(container, REJECTED)
    assert tables_of(container, replace(table_parts(container), needed=away)).sweep(serving=LIVE) == []
    assert len(folders(container)) == 1
    assert "old app tables stay" in caplog.text


def test_who_has_mapped_a_table_goes_on_with_it_when_it_is_gone(container: Container, scorer: Scorer) -> None:
    folder = stored(container)
    table = tables_of(container).newest(scorer)
    assert table
    shutil.rmtree(folder)
    assert [*table.base.edition.table.ids] == APPS
