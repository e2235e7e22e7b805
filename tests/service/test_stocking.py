"""A shelf on a table in files, with what changed since beside it: the same as one that was encoded here and now."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from model.bundle import load
from model.query import Query
from model.scorer import Scorer
from service import stocking
from service.catalogue import Shelf
from service.container import Container
from service.edition import Base, Edition
from service.errors import StoreUnavailable
from service.home import Home
from service.lastseen import CatalogueCopy
from service.settings import variable
from service.stocking import LocalStock, StoreStock
from service.store.ports import AppChanges, AppRecord
from service.store.sqlite_backend import open_sqlite
from service.table_files import Maker, open_stored, store_table
from service.tables import Tables
from tests.service.clock import Clock
from tests.service.preparing import nothing, table_parts, tables_of
from tests.service.store_front import APPS, LIVE

COUNTRIES = (None, "PT", "JP", "FR")


def catalogue(count: int) -> list[AppRecord]:
    """Apps of every kind: anywhere, in one country or two, and nowhere."""
    where: list[tuple[str, ...]] = [(), (), ("PT",), ("JP", "PT"), ("PT", "JP")]
    return [
        AppRecord(f"app{n}", {"rating": n % 5, "category": ["games", "tools"][n % 2]}, n % 7 > 0, where[n % len(where)])
        for n in range(count)
    ]


@pytest.fixture
def scorer(container: Container) -> Scorer:
    return Scorer.of(load(container.registry.folder(LIVE)))


def maker(scorer: Scorer) -> Maker:
    return Maker(scorer, (), nothing)


def mapped(container: Container, scorer: Scorer) -> Base:
    """The base of a table of all that is in the store."""
    return open_stored(store_table(container.home.tables, maker(scorer), container.features.app_pages()), scorer).base


def on_base(container: Container, scorer: Scorer) -> Shelf:
    return Shelf.on(mapped(container, scorer), scorer.schema)


def in_memory(scorer: Scorer, changes: AppChanges) -> Shelf:
    shelf = Shelf(scorer.table(()), scorer.schema)
    shelf.refresh(changes)
    return shelf


def told(shelf: Shelf, scorer: Scorer) -> dict[str, object]:
    """All that a shelf says: what is sold where, with which values, at which score."""
    said: dict[str, object] = {"len": len(shelf), "ids": set(shelf)}
    for country in COUNTRIES:
        all_sold = shelf.select(None, country=country)
        scores = scorer.score(Query("u1"), all_sold.table, all_sold.rows)
        ids = [all_sold.id_at(row) for row in all_sold.rows.tolist()]
        values = [all_sold.features_of(app_id) for app_id in ids]
        said[country or ""] = sorted(zip(ids, np.round(scores, 6).tolist(), map(str, values), strict=True))
        asked = shelf.select([*ids, "nobody's", APPS[0], APPS[1]], country=country)
        said[f"asked in {country}"] = (
            {asked.id_at(row) for row in asked.rows.tolist()},
            asked.unknown,
            asked.unavailable,
        )
    return said


def test_a_mapped_shelf_says_what_one_in_memory_says(container: Container, scorer: Scorer) -> None:
    container.features.put_apps(catalogue(300))
    assert told(on_base(container, scorer), scorer) == told(in_memory(scorer, container.features.apps_since(0)), scorer)


def test_what_changed_since_the_base_is_merged_with_it(container: Container, scorer: Scorer) -> None:
    container.features.put_apps(catalogue(300))
    shelf = on_base(container, scorer)
    for change in (
        [AppRecord("app1", {"rating": 4.5}), AppRecord("new", {"rating": 1}), AppRecord(APPS[0], available=False)],
        [AppRecord("app1", {"rating": 0.5}, countries=("FR",)), AppRecord("new", {"rating": 1}, countries=("JP",))],
    ):
        container.features.put_apps(change)
        shelf.refresh(container.features.apps_since(shelf.sequence))
    for gone in ("app2", "new"):
        container.features.delete_app(gone)
    container.features.put_apps([AppRecord("app2", {"rating": 3})])
    shelf.refresh(container.features.apps_since(shelf.sequence))
    assert told(shelf, scorer) == told(in_memory(scorer, container.features.apps_since(0)), scorer)


def test_however_often_apps_are_edited_little_is_kept_beside_the_base(container: Container, scorer: Scorer) -> None:
    container.features.put_apps(catalogue(100))
    shelf = on_base(container, scorer)
    taken = shelf.select(["app1"], country="PT")
    before = scorer.score(Query("u1"), taken.table, taken.rows)
    for number in range(300):
        record = AppRecord("app1", {"rating": float(number)})
        shelf.refresh(AppChanges(shelf.sequence + 1, (record,), (), shelf.origin))
    assert len(shelf.select(None, country=None).table) < 100 + len(APPS) + 100
    assert shelf.select(["app1"], country=None).features_of("app1") == {"rating": 299.0}
    assert np.array_equal(scorer.score(Query("u1"), taken.table, taken.rows), before)
    assert not shelf.outgrown


def test_who_took_an_edition_finds_an_app_where_that_had_it(container: Container, scorer: Scorer) -> None:
    shelf = on_base(container, scorer)
    edition = shelf.select(None, country=None).edition
    before = edition.rows_of([APPS[0], "new"]).tolist()
    for rating in (1.5, 2.5):
        changes = (AppRecord(APPS[0], {"rating": rating}), AppRecord("new", {"rating": rating}))
        shelf.refresh(AppChanges(shelf.sequence + 1, changes, (), shelf.origin))
    assert before == [0, -1]
    assert edition.rows_of([APPS[0], "new"]).tolist() == before


def test_apps_beyond_the_room_wait_for_a_base_but_not_their_markets(container: Container, scorer: Scorer) -> None:
    shelf = on_base(container, scorer)
    changes = (
        AppRecord("first", {}),
        AppRecord("second", {}),
        AppRecord(APPS[0], {"rating": 9.5}, available=False),
        AppRecord(APPS[1], {"rating": 9.5}),
    )
    shelf.refresh(AppChanges(shelf.sequence + 1, changes, (), shelf.origin), room=1)
    selection = shelf.select(["first", "second", APPS[0], APPS[1]], country=None)
    assert (selection.unknown, selection.unavailable) == (("second",), (APPS[0],))
    assert selection.features_of(APPS[1]) != {"rating": 9.5}
    assert shelf.outgrown


def test_a_shelf_moves_to_a_new_base_at_once_and_requests_in_flight_stay(container: Container, scorer: Scorer) -> None:
    shelf = on_base(container, scorer)
    container.features.put_apps(catalogue(50))
    shelf.refresh(container.features.apps_since(shelf.sequence), room=3)
    taken = shelf.select([APPS[0]], country=None)
    base = mapped(container, scorer)
    container.features.put_apps([AppRecord("later", {"rating": 2})])
    shelf.move(base, container.features.apps_since(base.sequence))
    assert told(shelf, scorer) == told(in_memory(scorer, container.features.apps_since(0)), scorer)
    assert not shelf.outgrown
    assert taken.id_at(int(taken.rows[0])) == APPS[0]


def test_what_is_edited_while_a_table_is_built_comes_after_it(container: Container, scorer: Scorer) -> None:
    container.features.put_apps(catalogue(1_500))
    edits: list[int] = []

    def edit() -> None:
        """Every few apps."""
        number = len(edits)
        edits.append(number)
        container.features.put_apps([AppRecord("app3", {"rating": number}), AppRecord(f"new{number}")])
        container.features.delete_app(f"app{10 + number}")

    folder = store_table(container.home.tables, Maker(scorer, (), edit), container.features.app_pages())
    base = open_stored(folder, scorer).base
    shelf = Shelf.on(base, scorer.schema)
    shelf.refresh(container.features.apps_since(base.sequence))
    assert len(edits) > 3
    assert told(shelf, scorer) == told(in_memory(scorer, container.features.apps_since(0)), scorer)


def test_a_table_of_an_empty_catalogue_is_one_that_apps_can_be_put_on(container: Container, scorer: Scorer) -> None:
    for app_id in APPS:
        container.features.delete_app(app_id)
    shelf = on_base(container, scorer)
    assert len(shelf) == 0
    assert shelf.select([APPS[0]], country=None).unknown == (APPS[0],)
    container.features.put_apps([AppRecord("new", {"rating": 2})])
    shelf.refresh(container.features.apps_since(shelf.sequence))
    assert set(shelf) == {"new"}


def test_of_a_large_catalogue_nothing_is_kept_as_an_object_an_app(container: Container, scorer: Scorer) -> None:
    container.features.put_apps(catalogue(50_000))
    base = mapped(container, scorer)
    shelf = Shelf.on(base, scorer.schema)
    selection = shelf.select(["app49999", "app0", "app3"], country="PT")
    sold = shelf.select(None, country="JP")
    assert (len(shelf), base.edition.table.base_count) == (50_000 + len(APPS), 50_000 + len(APPS))
    assert [selection.id_at(row) for row in selection.rows.tolist()] == ["app49999", "app3"]
    assert len(sold.rows) == len(APPS) + sum(
        app.available and (not app.countries or "JP" in app.countries) for app in catalogue(50_000)
    )
    assert not any(isinstance(one, (dict, list)) and len(one) > 1_000 for one in reachable(base.edition))


def reachable(edition: Edition) -> list[object]:
    """What an edition and its parts hold, two steps deep."""
    parts = [edition, edition.table, edition.markets, edition.values]
    held = [one for part in parts for one in vars(part).values()]
    return [*held, *(inner for one in held if hasattr(one, "__dict__") for inner in vars(one).values())]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten apps are many from here on."""
    monkeypatch.setattr(stocking, "SMALL", 10)


def stock(container: Container, tables: Tables | None = None) -> StoreStock:
    return StoreStock(container.features, tables or tables_of(container), nothing)


@pytest.mark.usefixtures("few")
def test_a_start_on_a_table_asks_for_the_changes_alone(container: Container, scorer: Scorer) -> None:
    stored = store_table(container.home.tables, maker(scorer), container.features.app_pages())
    container.features.put_apps([AppRecord("new")])
    untouched = replace(table_parts(container), bundle=nobody_builds)
    stocked = stock(container, tables_of(container, untouched))(scorer, ())
    assert set(stocked.shelf) == {*APPS, "new"}
    assert stocked.shelf.base.edition.table.base_count == len(APPS)
    assert stored.exists()


def nobody_builds(version: str) -> Path:
    raise AssertionError(f"{version} is built")


@pytest.mark.usefixtures("few")
def test_the_error_of_a_table_from_another_kind_of_processor_is_measured_again(
    container: Container, scorer: Scorer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def runs_on(dtype: torch.dtype) -> None:
        for module in ("model.fast_scorer", "service.table_files"):
            monkeypatch.setattr(f"{module}.best_dtype", lambda: dtype)

    golden = load(container.registry.folder(LIVE)).golden
    runs_on(torch.float32)
    store_table(container.home.tables, Maker(scorer, golden, nothing), container.features.app_pages())
    from_store = StoreStock(container.features, tables_of(container), nothing)
    from_here = LocalStock(CatalogueCopy(container.home.catalogue), tables_of(container), nothing)
    assert {stock(scorer, golden).error < 1e-5 for stock in (from_store, from_here)} == {True}
    runs_on(torch.bfloat16)
    assert {1e-4 < stock(scorer, golden).error < 0.1 for stock in (from_store, from_here)} == {True}


def test_a_table_of_another_store_is_not_gone_on_from(container: Container, scorer: Scorer, tmp_path: Path) -> None:
    store_table(container.home.tables, maker(scorer), container.features.app_pages())
    other = open_sqlite(Home(tmp_path), Clock()).features
    for number in range(12):
        other.put_apps([AppRecord(f"other{number}")])
    environ = {**table_parts(container).environ, variable("home"): str(tmp_path)}
    tables = tables_of(container, replace(table_parts(container), environ=environ))
    assert set(StoreStock(other, tables, nothing)(scorer, ()).shelf) == {f"other{number}" for number in range(12)}


@pytest.mark.usefixtures("few")
def test_where_no_table_can_be_built_the_catalogue_is_held_in_memory(
    container: Container, scorer: Scorer, caplog: pytest.LogCaptureFixture
) -> None:
    container.home.tables.write_text("a file where the folder should be")
    with caplog.at_level(logging.ERROR):
        stocked = stock(container)(scorer, ())
    assert set(stocked.shelf) == set(APPS)
    assert "each process holds all of it in memory of its own" in caplog.text


def test_a_small_catalogue_is_encoded_here_and_leaves_no_files(container: Container, scorer: Scorer) -> None:
    stocked = stock(container)(scorer, ())
    assert set(stocked.shelf) == set(APPS)
    assert not container.home.tables.exists()


def test_without_the_store_a_table_serves_with_the_changes_that_were_copied(
    container: Container, scorer: Scorer
) -> None:
    base, copy = mapped(container, scorer), CatalogueCopy(container.home.catalogue)
    local = LocalStock(copy, tables_of(container), nothing)
    alone = set(local(scorer, ()).shelf)
    container.features.put_apps([AppRecord("new")])
    container.features.delete_app(APPS[0])
    changes = container.features.apps_since(base.sequence)
    copy.write(changes, since=base.sequence)
    shelf = local(scorer, ()).shelf
    assert alone == set(APPS)
    assert set(shelf) == {*APPS[1:], "new"}
    assert (shelf.sequence, shelf.origin) == (changes.sequence, changes.origin)


def test_without_the_store_changes_of_another_base_are_left_out(container: Container, scorer: Scorer) -> None:
    base, copy = mapped(container, scorer), CatalogueCopy(container.home.catalogue)
    copy.write(AppChanges(base.sequence + 5, (AppRecord("new"),), (), base.origin), since=base.sequence + 1)
    assert set(LocalStock(copy, tables_of(container), nothing)(scorer, ()).shelf) == set(APPS)


def test_without_the_store_a_newer_copy_of_everything_goes_before_a_table(container: Container, scorer: Scorer) -> None:
    base, copy = mapped(container, scorer), CatalogueCopy(container.home.catalogue)
    copy.write(AppChanges(base.sequence + 1, (AppRecord("only"),), (), base.origin))
    assert set(LocalStock(copy, tables_of(container), nothing)(scorer, ()).shelf) == {"only"}


def test_without_the_store_a_copy_of_the_one_that_replaced_it_goes_before_a_table(
    container: Container, scorer: Scorer
) -> None:
    base, copy = mapped(container, scorer), CatalogueCopy(container.home.catalogue)
    copy.write(AppChanges(base.sequence - 1, (AppRecord("only"),), (), "another store"))
    assert set(LocalStock(copy, tables_of(container), nothing)(scorer, ()).shelf) == {"only"}


def test_without_the_store_a_table_goes_before_a_copy_in_a_former_format(container: Container, scorer: Scorer) -> None:
    base, copy = mapped(container, scorer), CatalogueCopy(container.home.catalogue)
    copy.write(AppChanges(base.sequence + 1, (AppRecord("only"),), (), base.origin))
    file = container.home.catalogue
    file.write_bytes(file.read_bytes().replace(b'"format":2', b'"format":1'))
    assert set(LocalStock(copy, tables_of(container), nothing)(scorer, ()).shelf) == set(APPS)


def test_without_the_store_a_table_or_a_copy_there_must_be(container: Container, scorer: Scorer) -> None:
    local = LocalStock(CatalogueCopy(container.home.catalogue), tables_of(container), nothing)
    with pytest.raises(StoreUnavailable, match=r"catalogue\.jsonl"):
        local(scorer, ())
