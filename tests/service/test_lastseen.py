"""What is kept on disk for a start while the store is away."""

import logging
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from model.manifest import BundleError
from service.container import Container
from service.engine import Live
from service.errors import StoreUnavailable
from service.lastseen import CatalogueCopy, LastSeen, Mark, write_whole
from service.stocking import LocalStock
from service.store.ports import AppChanges, AppRecord
from tests.service.preparing import nothing, preparation_of, tables_of
from tests.service.store_front import APPS, LIVE, PASSED

CATALOGUE = AppChanges(
    sequence=7,
    put=(
        AppRecord("com.a", {"category": "games", "rating": 4.5, "price": 3, "new": True, "none": None}),
        AppRecord("com.b\n'\"", {"tags": ["fun", "work"]}, available=False, countries=("PT", "BR")),
    ),
    deleted=("com.gone",),
    origin="a store",
)


@pytest.fixture
def copy(tmp_path: Path) -> CatalogueCopy:
    return CatalogueCopy(tmp_path / "catalogue.jsonl")


@pytest.fixture
def last_seen(container: Container) -> LastSeen:
    """What a process of the furnished store saw, before that went away."""
    copy = CatalogueCopy(container.home.catalogue)
    copy.write(container.features.apps_since(0))
    unaided = preparation_of(container, LocalStock(copy, tables_of(container), nothing))
    return LastSeen(container.home.pointer, prepare=lambda version: unaided(container.bundles.fetch(version)))


def test_a_copy_gives_the_catalogue_back_with_the_place_to_go_on_from(copy: CatalogueCopy) -> None:
    copy.write(CATALOGUE)
    again = copy.changes(since=0)
    assert again.put == CATALOGUE.put
    assert [type(value) for value in again.put[0].features.values()] == [str, float, int, bool, type(None)]
    assert (again.sequence, again.origin, again.deleted) == (7, "a store", ())


def test_a_copy_tells_how_new_it_is(copy: CatalogueCopy) -> None:
    before = copy.mark
    copy.write(CATALOGUE)
    mark = copy.mark
    assert (before, mark) == (None, Mark("a store", 7, apps=2))
    assert mark
    assert mark.covers(origin="a store", sequence=7)
    assert not mark.covers(origin="a store", sequence=8)
    assert not mark.covers(origin="another", sequence=1)
    assert not Mark("a store", 7, apps=2, format=1).covers(origin="a store", sequence=7)


def test_a_whole_copy_replaces_an_older_state_and_one_of_another_store() -> None:
    mark = Mark("a store", 7, apps=2)
    assert mark.replaces(origin="a store", sequence=7)
    assert mark.replaces(origin="another", sequence=8)
    assert not mark.replaces(origin="a store", sequence=8)
    assert not Mark("a store", 7, apps=2, since=3).replaces(origin="a store", sequence=3)
    assert not Mark("a store", 7, apps=2, format=1).replaces(origin="a store", sequence=3)


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: b"",
        lambda text: text[:-20],
        lambda text: text[: text.rindex(b"\n", 0, -1) + 1],
        lambda text: text.replace(b'"format":2', b'"format":1'),
        lambda text: b"no JSON at all",
        lambda text: b"\xff" + text,
    ],
)
def test_a_copy_that_is_not_whole_is_no_copy(
    copy: CatalogueCopy, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    copy.write(CATALOGUE)
    file = tmp_path / "catalogue.jsonl"
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(StoreUnavailable, match=r"catalogue\.jsonl"):
        copy.changes(since=0)


def test_where_there_is_no_copy_that_is_said(copy: CatalogueCopy) -> None:
    with pytest.raises(StoreUnavailable, match=r"catalogue\.jsonl is not available \(No such file"):
        copy.changes(since=0)


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    file = tmp_path / "file"
    write_whole(file, [b"old"])

    def chunks() -> Iterator[bytes]:
        yield b"half of the n"
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_whole(file, chunks())
    assert file.read_bytes() == b"old"
    assert {one.name for one in tmp_path.iterdir()} == {"file", ".file.lock"}
    write_whole(file, [b"new"])
    assert file.read_bytes() == b"new"


def test_of_many_who_write_at_once_the_file_is_one_of_theirs(tmp_path: Path) -> None:
    texts = [str(number).encode() * 100_000 for number in range(8)]
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda text: write_whole(tmp_path / "file", [text]), texts))
    assert (tmp_path / "file").read_bytes() in texts


def test_the_version_that_served_last_is_ready_from_local_files_alone(
    last_seen: LastSeen, container: Container
) -> None:
    last_seen.remember(LIVE)
    last_seen.remember(PASSED)
    container.home.store.write_bytes(b"this is no database")
    live = last_seen.prepare()
    assert live
    assert live.version == PASSED
    assert set(live.shelf) == set(APPS)
    assert live.shelf.sequence > 0


def test_a_version_that_is_remembered_already_is_not_written_again(last_seen: LastSeen, container: Container) -> None:
    last_seen.remember(LIVE)
    os.utime(container.home.pointer, (1, 1))
    last_seen.remember(LIVE)
    assert container.home.pointer.stat().st_mtime == 1


def test_where_nothing_ever_served_there_is_nothing_to_take(last_seen: LastSeen) -> None:
    assert last_seen.prepare() is None


@pytest.mark.parametrize("text", ["", "../../etc", "20260101T000000Z-ffffff"])
def test_a_pointer_that_names_no_bundle_here_is_refused(last_seen: LastSeen, container: Container, text: str) -> None:
    container.home.pointer.write_text(text)
    with pytest.raises(BundleError):
        last_seen.prepare()


def fail(version: str) -> Live:
    raise ZeroDivisionError(version)


def test_a_disk_that_keeps_nothing_is_logged_and_serving_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    nowhere = LastSeen(tmp_path / "no folder" / "live.version", prepare=fail)
    with caplog.at_level(logging.WARNING):
        nowhere.remember(LIVE)
    assert "could not be kept" in caplog.text
