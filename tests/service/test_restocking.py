"""A shelf follows the store's catalogue, whatever becomes of the store."""

import gc
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from weakref import ref

import pytest

from model.pauses import unpaused
from service import edition, restocking
from service.catalogue import Shelf
from service.container import Container
from service.edition import Base, Edition
from service.engine import Live
from service.errors import StoreUnavailable
from service.home import Home
from service.lastseen import CatalogueCopy
from service.rebasing import AGAIN_AFTER_S, Bases
from service.restocking import COPY_EVERY_S, Restocker
from service.settings import variable
from service.store.ports import AppChanges, AppPages, AppRecord, FeatureStore
from service.store.redis_backend import open_redis
from service.store.sqlite_backend import open_sqlite
from service.tables import Tables
from tests.redis_server import redis_server
from tests.service.clock import Clock
from tests.service.fleet import Inline
from tests.service.preparing import table_parts, tables_of
from tests.service.store.backends import PATIENT_S
from tests.service.store_front import APPS, LIVE
from tests.service.wire import soon


@dataclass
class Store:
    """A catalogue that counts its changes from 1, as a Redis does that was given one after it lost another."""

    origin: str = ""
    changes: list[tuple[str, AppRecord | None]] = field(default_factory=list)
    asked: list[int] = field(default_factory=list)
    away: bool = False

    def put(self, *names: str, origin: str = "first") -> None:
        self.origin = self.origin or origin
        self.changes += [(name, AppRecord(name)) for name in names]

    def delete(self, name: str) -> None:
        self.changes.append((name, None))

    def lose(self, *, last: int | None = None) -> None:
        """Everything, or only the last changes."""
        self.changes = [] if last is None else self.changes[:-last]
        self.origin = self.origin if self.changes else ""

    def apps_since(self, sequence: int) -> AppChanges:
        self.asked.append(sequence)
        if self.away:
            raise StoreUnavailable("redis", "timed out")
        newest = dict(self.changes[sequence:])
        put = tuple(record for record in newest.values() if record)
        deleted = tuple(name for name, record in newest.items() if record is None)
        return AppChanges(len(self.changes), put, deleted, self.origin)

    def app_pages(self) -> AppPages:
        whole = self.apps_since(0)
        return AppPages(whole.sequence, len(self.changes), iter([whole.put]), whole.origin)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def copy(tmp_path: Path) -> CatalogueCopy:
    return CatalogueCopy(tmp_path / "catalogue.jsonl")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def bases(container: Container, clock: Clock) -> Bases:
    return Bases(tables_of(container), Inline(), clock=clock, pause=unpaused)


@pytest.fixture
def restock(store: Store, copy: CatalogueCopy, bases: Bases, clock: Clock) -> Restocker:
    catalogue: Any = store  # what of it a restocker calls
    return Restocker(catalogue, copy=copy, bases=bases, clock=clock)


@pytest.fixture
def live(container: Container) -> Live:
    """A version with an empty shelf."""
    prepared = container.prepare(LIVE)
    return replace(prepared, shelf=Shelf(prepared.scorer.table(()), prepared.scorer.schema))


def test_what_changed_is_taken_in_and_nothing_else_is_read(restock: Restocker, store: Store, live: Live) -> None:
    store.put("a", "b")
    restock(live)
    store.put("c")
    store.delete("a")
    restock(live)
    assert set(live.shelf) == {"b", "c"}
    assert store.asked[-1] == 2


def test_a_store_that_returns_with_all_it_had_is_gone_on_with(restock: Restocker, store: Store, live: Live) -> None:
    store.put("a")
    restock(live)
    store.away = True
    with pytest.raises(StoreUnavailable):
        restock(live)
    store.away = False
    store.put("b")
    restock(live)
    assert set(live.shelf) == {"a", "b"}
    assert store.asked[-1] == 1


def test_a_store_that_lost_its_newest_changes_is_read_anew(restock: Restocker, store: Store, live: Live) -> None:
    store.put("a", "b", "c")
    restock(live)
    store.lose(last=2)
    restock(live)
    assert set(live.shelf) == {"a"}
    store.put("d")
    restock(live)
    assert set(live.shelf) == {"a", "d"}


def test_another_store_is_read_anew_even_where_it_counts_further(restock: Restocker, store: Store, live: Live) -> None:
    store.put("a", "b")
    restock(live)
    store.lose()
    store.put("b", "c", "d", origin="second")
    restock(live)
    assert set(live.shelf) == {"b", "c", "d"}
    assert (live.shelf.sequence, live.shelf.origin) == (3, "second")


def test_a_store_that_lost_everything_empties_no_shelf_and_is_told_of_once(
    restock: Restocker, store: Store, live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    store.put("a")
    restock(live)
    store.lose()
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            restock(live)
    assert set(live.shelf) == {"a"}
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    store.put("z", origin="second")
    restock(live)
    assert set(live.shelf) == {"z"}


def test_a_catalogue_deleted_app_by_app_does_empty_the_shelf(restock: Restocker, store: Store, live: Live) -> None:
    store.put("a")
    restock(live)
    store.delete("a")
    restock(live)
    assert len(live.shelf) == 0


def test_a_store_that_was_always_empty_has_lost_nothing(
    restock: Restocker, store: Store, live: Live, caplog: pytest.LogCaptureFixture
) -> None:
    store.origin = "named at once"
    restock(live)
    store.put("a")
    restock(live)
    assert set(live.shelf) == {"a"}
    assert not caplog.records


def test_the_copy_is_written_first_at_once_and_then_only_at_times(
    restock: Restocker, store: Store, live: Live, copy: CatalogueCopy, clock: Clock
) -> None:
    def copied() -> set[str]:
        return {record.id for record in copy.changes(since=0).put}

    store.put("a")
    restock(live)
    assert copied() == {"a"}
    store.put("b")
    restock(live)
    assert copied() == {"a"}
    clock.advance(COPY_EVERY_S)
    restock(live)
    assert copied() == {"a", "b"}


def test_an_unchanged_catalogue_and_one_that_another_process_copied_are_not_copied(
    restock: Restocker, store: Store, live: Live, clock: Clock
) -> None:
    store.put("a")
    restock(live)
    for _ in range(3):
        clock.advance(COPY_EVERY_S)
        restock(live)
    assert store.asked.count(0) == 2  # the empty shelf and the one copy


def test_a_copy_of_a_former_store_is_replaced(
    restock: Restocker, store: Store, live: Live, copy: CatalogueCopy
) -> None:
    copy.write(AppChanges(1_000, (AppRecord("of long ago"),), (), "the one before"))
    store.put("a")
    restock(live)
    assert copy.mark
    assert copy.mark.origin == "first"


def test_a_copy_in_a_former_format_is_written_anew(
    restock: Restocker, store: Store, live: Live, copy: CatalogueCopy, tmp_path: Path, clock: Clock
) -> None:
    store.put("a")
    restock(live)
    file = tmp_path / "catalogue.jsonl"
    file.write_bytes(file.read_bytes().replace(b'"format":2', b'"format":1'))
    clock.advance(COPY_EVERY_S)
    restock(live)
    assert {record.id for record in copy.changes(since=0).put} == {"a"}


def test_an_empty_store_leaves_a_copy_alone(
    restock: Restocker, store: Store, live: Live, copy: CatalogueCopy, clock: Clock
) -> None:
    store.put("a")
    restock(live)
    store.lose()
    clock.advance(COPY_EVERY_S)
    restock(live)
    assert copy.mark
    assert copy.mark.apps == 1


def test_a_copy_that_cannot_be_written_is_logged_and_the_shelf_is_stocked(
    store: Store, live: Live, tmp_path: Path, bases: Bases, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue: Any = store
    store.put("a")
    Restocker(catalogue, copy=CatalogueCopy(tmp_path / "no folder" / "copy"), bases=bases, clock=Clock())(live)
    assert set(live.shelf) == {"a"}
    assert "could not be copied" in caplog.text


def test_a_redis_that_was_emptied_and_filled_with_another_catalogue_is_read_anew(
    live: Live, tmp_path: Path, copy: CatalogueCopy, bases: Bases
) -> None:
    with redis_server(tmp_path / "redis") as server, server.client() as redis:
        features = open_redis(server.url, clock=Clock(), timeout_s=PATIENT_S).features
        restock = Restocker(features, copy=copy, bases=bases, clock=Clock())
        restock(live)
        features.put_apps([AppRecord("a")])
        features.put_apps([AppRecord("b", {"category": "games"})])
        restock(live)
        redis.flushall()
        restock(live)
        emptied = set(live.shelf)
        for name in ("b", "c", "d"):
            features.put_apps([AppRecord(name)])
        restock(live)

    assert emptied == {"a", "b"}
    assert set(live.shelf) == {"b", "c", "d"}
    assert live.shelf.select(["b"], country=None).features_of("b") == {}


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten apps are many from here on."""
    for module in (edition, restocking):
        monkeypatch.setattr(module, "SMALL", 10)


@dataclass
class Building:
    """A restocker of a store whose bases are built in a thread beside it."""

    features: FeatureStore
    tables: Tables
    clock: Clock = field(default_factory=Clock)
    pauses: list[None] = field(default_factory=list)

    def __post_init__(self) -> None:
        bases = Bases(self.tables, ThreadPoolExecutor(1), clock=self.clock, pause=self.pause)
        self.restock = Restocker(self.features, copy=None, bases=bases, clock=self.clock)

    def pause(self) -> None:
        self.pauses.append(None)

    def until(self, live: Live, true: Callable[[], bool]) -> bool:
        """Restock again and again until it is true."""

        def step() -> bool:
            self.restock(live)
            return true()

        return soon(step)


@pytest.mark.usefixtures("few")
def test_a_shelf_that_has_outgrown_its_base_goes_over_to_a_new_one(container: Container) -> None:
    live = container.prepare(LIVE)
    building = Building(container.features, tables_of(container))
    building.restock(live)
    container.features.put_apps([AppRecord("new"), AppRecord("newer", countries=("PT",))])
    assert set(live.shelf) == set(APPS)
    assert building.until(live, lambda: live.shelf.base.edition.table.base_count > 0)
    assert set(live.shelf) == {*APPS, "new", "newer"}
    assert not live.shelf.outgrown


@pytest.mark.usefixtures("few")
def test_a_base_that_another_has_replaced_is_let_go_in_steps(container: Container) -> None:
    live = container.prepare(LIVE)
    building = Building(container.features, tables_of(container))
    container.features.put_apps([AppRecord("new")])
    assert building.until(live, lambda: live.shelf.base.edition.table.base_count > 0)
    first = live.shelf.base
    assert not building.pauses

    container.features.put_apps([AppRecord(f"newer{number}") for number in range(11)])

    assert building.until(live, lambda: live.shelf.base is not first)
    assert soon(lambda: bool(building.pauses))
    assert live.shelf.select(["new"], country=None).features_of("new") == {}


@pytest.mark.usefixtures("few")
def test_a_large_catalogue_of_another_store_is_shown_once_there_is_a_base_of_it(
    container: Container, tmp_path: Path
) -> None:
    live = container.prepare(LIVE)
    other = open_sqlite(Home(tmp_path), Clock()).features
    other.put_apps([AppRecord(f"other{number}") for number in range(12)])
    environ = {**table_parts(container).environ, variable("home"): str(tmp_path)}
    building = Building(other, tables_of(container, replace(table_parts(container), environ=environ)))
    building.restock(live)
    assert set(live.shelf) == set(APPS)
    assert building.until(live, lambda: len(live.shelf) == 12)
    other.put_apps([AppRecord("later")])
    building.restock(live)
    assert set(live.shelf) == {"later", *(f"other{number}" for number in range(12))}


@pytest.mark.usefixtures("few")
def test_a_base_that_cannot_be_built_is_told_of_and_tried_again_after_a_while(
    container: Container, caplog: pytest.LogCaptureFixture
) -> None:
    live = container.prepare(LIVE)
    container.home.tables.write_text("a file where the folder should be")
    building = Building(container.features, tables_of(container))
    assert building.until(live, lambda: "wait for a new base" in caplog.text)
    container.home.tables.unlink()
    for _ in range(3):
        building.restock(live)
    assert caplog.text.count("wait for a new base") == 1
    building.clock.advance(AGAIN_AFTER_S)
    assert building.until(live, lambda: live.shelf.base.edition.table.base_count == len(APPS))


@pytest.mark.usefixtures("few")
def test_a_shelf_that_waits_for_a_base_is_let_go_of_when_another_serves(
    container: Container, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = open_sqlite(Home(tmp_path), Clock()).features
    other.put_apps([AppRecord(f"other{number}") for number in range(12)])
    caplog.set_level(logging.CRITICAL)  # else the log keeps the error, and that the order that failed
    container.home.tables.write_text("a file where the folder should be")
    building = Building(other, tables_of(container))
    former, latter = container.prepare(LIVE), container.prepare(LIVE)
    latter.shelf.move(Base(Edition.empty(latter.scorer.table(()))), other.apps_since(0))
    building.restock(former)
    waiting = ref(former.shelf)
    del former

    def gone() -> bool:
        gc.collect()
        return waiting() is None

    assert building.until(latter, gone)
