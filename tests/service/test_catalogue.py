"""The shelf: which rows may be shown to whom, before and after the catalogue changed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.bundle import load
from model.scorer import Scorer
from service.catalogue import Shelf, Stock
from service.container import Container
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
    rows = shelf.select(None, country=country, without=without).rows
    return [shelf.table.ids[row] for row in rows]


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
    assert [shelf.table.ids[row] for row in selection.rows] == ["iberian"]
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


def test_changed_features_are_scored_from_a_new_row(shelf: Shelf) -> None:
    before = shelf.select(["everywhere"], country=None).rows
    shelf.refresh(AppChanges(2, (AppRecord("everywhere", {"rating": 5.0}),), ()))
    after = shelf.select(["everywhere"], country=None).rows
    assert before != after
    assert shown(shelf) == ["everywhere"]


def test_values_that_do_not_fit_this_schema_are_left_out_of_the_row(shelf: Shelf) -> None:
    shelf.refresh(
        AppChanges(2, (AppRecord("odd", {"rating": "five", "category": "games", "of_a_later_schema": 1}),), ())
    )
    assert "odd" in shelf


def test_no_change_leaves_everything_as_it_is(shelf: Shelf) -> None:
    stock = shelf._stock
    shelf.refresh(AppChanges(1, (), ()))
    assert shelf._stock is stock
    assert len(shelf) == 4


countries = st.frozensets(st.sampled_from(["PT", "JP", "DE"]), max_size=2)


@settings(deadline=None)
@given(st.dictionaries(st.text(max_size=3), st.tuples(st.booleans(), countries), max_size=20))
def test_what_a_country_is_shown_is_each_app_that_is_sold_there(apps: dict[str, tuple[bool, frozenset[str]]]) -> None:
    rows = {app_id: row for row, app_id in enumerate(apps)}
    stock = Stock(
        rows,
        frozenset(app_id for app_id, (available, _) in apps.items() if not available),
        {app_id: where for app_id, (_, where) in apps.items() if where},
    )
    for country in (None, "PT", "JP", "FR"):
        expected = [rows[app_id] for app_id in apps if stock.sells(app_id, country)]
        assert np.array_equal(np.sort(stock.sold_in(country)), expected)
