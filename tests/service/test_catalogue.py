"""The shelf: which rows may be shown to whom, before and after the catalogue changed."""

from weakref import ref

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from model.bundle import load
from model.query import App, Query
from model.scorer import Scorer
from service.catalogue import Shelf
from service.container import Container
from service.edition import COUNTRIES_KEPT, SPARE_ROWS
from service.store.ports import AppChanges, AppRecord
from tests.service.store_front import LIVE


@pytest.fixture
def scorer(container: Container) -> Scorer:
    return Scorer.of(load(container.registry.folder(LIVE)))


@pytest.fixture
def shelf(scorer: Scorer) -> Shelf:
    """Four apps: one everywhere, one in two countries, one in another, one that is not available."""
    records = (
        AppRecord("everywhere"),
        AppRecord("iberian", countries=("PT", "ES")),
        AppRecord("japanese", countries=("JP",)),
        AppRecord("gone", available=False, countries=("PT",)),
    )
    shelf = Shelf(scorer.table(()), scorer.schema)
    shelf.refresh(AppChanges(1, records, ()))
    return shelf


def shown(shelf: Shelf, country: str | None = None, without: frozenset[str] = frozenset()) -> list[str]:
    selection = shelf.select(None, country=country, without=without)
    return [selection.table.ids[row] for row in selection.rows]


@pytest.mark.parametrize(
    ("country", "apps"),
    [
        ("PT", ["everywhere", "iberian"]),
        ("JP", ["everywhere", "japanese"]),
        ("DE", ["everywhere"]),
        (None, ["everywhere"]),
    ],
)
def test_the_catalogue_of_a_country_holds_what_is_sold_there(
    shelf: Shelf, country: str | None, apps: list[str]
) -> None:
    assert shown(shelf, country) == apps


def test_given_candidates_are_told_apart_by_what_becomes_of_them(shelf: Shelf) -> None:
    asked = ["japanese", "unheard", "iberian", "gone", "everywhere", "iberian"]
    selection = shelf.select(asked, country="PT", without=frozenset({"everywhere"}))
    assert [selection.table.ids[row] for row in selection.rows] == ["iberian"]
    assert selection.unknown == ("unheard",)
    assert selection.unavailable == ("japanese", "gone", "everywhere")
    assert selection.doubled == ("iberian",)


def test_what_is_left_out_is_not_in_the_catalogue_and_may_be_unheard_of(shelf: Shelf) -> None:
    assert shown(shelf, "PT", frozenset({"everywhere", "unheard"})) == ["iberian"]


def test_a_new_app_is_shown_after_a_refresh_and_a_deleted_one_is_unknown(shelf: Shelf) -> None:
    shelf.refresh(AppChanges(2, (AppRecord("new"),), ("everywhere",)))
    assert shown(shelf) == ["new"]
    assert shelf.select(["everywhere"], country=None).unknown == ("everywhere",)
    assert shelf.sequence == 2


def test_a_deleted_app_can_come_back(shelf: Shelf) -> None:
    shelf.refresh(AppChanges(2, (), ("everywhere",)))
    shelf.refresh(AppChanges(3, (AppRecord("everywhere"),), ()))
    assert shown(shelf) == ["everywhere"]


def test_a_change_of_countries_or_availability_replaces_the_former(shelf: Shelf) -> None:
    shelf.refresh(AppChanges(2, (AppRecord("gone"), AppRecord("iberian", countries=("JP",))), ()))
    assert set(shown(shelf, "PT")) == {"everywhere", "gone"}
    assert set(shown(shelf, "JP")) == {"everywhere", "gone", "iberian", "japanese"}


def test_of_many_countries_the_rows_of_a_few_are_kept(shelf: Shelf) -> None:
    countries = [f"C{number}" for number in range(3 * COUNTRIES_KEPT)]
    shelf.refresh(AppChanges(2, tuple(AppRecord(f"in {one}", countries=(one,)) for one in countries), ()))
    edition = shelf.select(None, country=None).edition
    first = edition.sold_in("C0")
    assert edition.sold_in("C0") is first
    assert [shown(shelf, one) for one in countries] == [["everywhere", f"in {one}"] for one in countries]
    assert edition.sold_in("C0") is not first


@pytest.mark.usefixtures("no_collection")
def test_a_former_edition_is_let_go_of_as_soon_as_nobody_uses_it(shelf: Shelf) -> None:
    former = ref(shelf.select(None, country="PT").edition)
    assert former()
    shelf.refresh(AppChanges(2, (AppRecord("new"),), ()))
    assert former() is None


def row_of(shelf: Shelf, app_id: str) -> int:
    (row,) = shelf.select([app_id], country="PT").rows
    return int(row)


def test_changed_features_are_scored_from_a_new_row(shelf: Shelf) -> None:
    before = row_of(shelf, "everywhere")
    shelf.refresh(AppChanges(2, (AppRecord("everywhere", {"rating": 5.0}),), ()))
    assert row_of(shelf, "everywhere") != before
    assert shown(shelf) == ["everywhere"]


@pytest.mark.parametrize(
    "same", [AppRecord("iberian", countries=("PT",)), AppRecord("iberian", {"rating": "none", "of_a_later_schema": 1})]
)
def test_an_app_whose_values_are_as_they_were_keeps_its_row(shelf: Shelf, same: AppRecord) -> None:
    before, rows = row_of(shelf, "iberian"), len(shelf.select(None, country=None).table)
    shelf.refresh(AppChanges(2, (same,), ()))
    assert row_of(shelf, "iberian") == before
    assert len(shelf.select(None, country=None).table) == rows


def test_an_app_that_comes_back_with_other_values_is_scored_with_those(shelf: Shelf) -> None:
    shelf.refresh(AppChanges(2, (), ("everywhere",)))
    shelf.refresh(AppChanges(3, (AppRecord("everywhere", {"rating": 2.0}),), ()))
    assert shelf.select(["everywhere"], country=None).features_of("everywhere") == {"rating": 2.0}


def edit(shelf: Shelf, times: int) -> None:
    for number in range(times):
        record = AppRecord("everywhere", {"rating": float(number)})
        shelf.refresh(AppChanges(shelf.sequence + 1, (record,), ()))


def test_however_often_apps_are_edited_the_table_stays_as_small_as_the_catalogue(shelf: Shelf, scorer: Scorer) -> None:
    edit(shelf, 500)
    selection = shelf.select(None, country="PT")
    assert len(selection.table) <= 2 * len(shelf) + SPARE_ROWS
    assert shown(shelf, "PT") == ["iberian", "everywhere"]
    fresh = scorer.table([App("iberian"), App("everywhere", {"rating": 499.0})])
    scores = scorer.score(Query("u1"), selection.table, selection.rows)
    assert scores == pytest.approx(scorer.score(Query("u1"), fresh, np.arange(2)), abs=1e-6)


def test_a_request_in_flight_finishes_on_the_table_that_it_took(shelf: Shelf, scorer: Scorer) -> None:
    taken = shelf.select(["japanese", "everywhere"], country="JP")
    before = scorer.score(Query("u1"), taken.table, taken.rows)
    edit(shelf, 100)
    assert shelf.select(None, country=None).table is not taken.table
    assert np.array_equal(scorer.score(Query("u1"), taken.table, taken.rows), before)
    assert [taken.table.ids[row] for row in taken.rows] == ["japanese", "everywhere"]
    assert taken.features_of("everywhere") == {}


def test_a_catalogue_that_was_emptied_holds_no_rows(shelf: Shelf) -> None:
    edit(shelf, SPARE_ROWS)
    shelf.refresh(AppChanges(1000, (), ("everywhere", "iberian", "japanese", "gone")))
    assert len(shelf.select(None, country=None).table) == 0
    shelf.refresh(AppChanges(1001, (AppRecord("new"),), ()))
    assert shown(shelf) == ["new"]


def test_values_that_do_not_fit_this_schema_are_left_out_of_the_row(shelf: Shelf) -> None:
    shelf.refresh(
        AppChanges(2, (AppRecord("odd", {"rating": "five", "category": "games", "of_a_later_schema": 1}),), ())
    )
    assert "odd" in shelf


def test_no_change_leaves_everything_as_it_is(shelf: Shelf) -> None:
    edition = shelf.select(None, country=None).edition
    shelf.refresh(AppChanges(1, (), ()))
    assert shelf.select(None, country=None).edition is edition
    assert len(shelf) == 4


countries = st.frozensets(st.sampled_from(["PT", "JP", "DE"]), max_size=2)


texts = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=3)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(texts, st.tuples(st.booleans(), countries), max_size=20))
def test_what_a_country_is_shown_is_each_app_that_is_sold_there(
    scorer: Scorer, apps: dict[str, tuple[bool, frozenset[str]]]
) -> None:
    records = [AppRecord(app_id, {}, available, tuple(where)) for app_id, (available, where) in apps.items()]
    shelf = Shelf(scorer.table(()), scorer.schema)
    shelf.refresh(AppChanges(1, tuple(records), ()))
    for country in (None, "PT", "JP", "FR"):
        sold = [app_id for app_id, (available, where) in apps.items() if available and (not where or country in where)]
        assert shown(shelf, country) == sold
        asked = shelf.select(list(apps), country=country)
        assert [asked.id_at(row) for row in asked.rows] == sold
        assert (asked.unknown, set(asked.unavailable)) == ((), apps.keys() - set(sold))
