"""Tables of all users: as training counts them, and carried on from one window of the service's log to the next."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from model.data.census import population_of
from model.data.dataset import LOGGED, Dataset, user_histories
from model.data.examples import encode
from model.data.history import history_of
from model.fitting import fit
from model.growth import grow
from model.population import PRIOR_USERS, Population, population_fields
from model.query import Query
from model.training import TrainConfig
from model.warmstart import WarmStart
from tests.model.data.test_crowd import BESIDE, EVENTS, NOW, Row, log
from tests.model.parents import bundle_from, trained
from tests.model.worlds import COUNTED

FIELDS = population_fields(COUNTED)
CONFIG = TrainConfig(params={"dim": 4, "hidden": (8,)}, batch_size=16, epochs=1)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(EVENTS, min_size=1, max_size=40), timed=st.booleans())
def test_what_is_served_is_what_training_computes_for_whoever_asks_in_the_end(rows: list[Row], timed: bool) -> None:
    asked = [{"user_id": user, "app_id": app, "label": 0, "split": "gate", "daytime": daytime, "at": 99}
             for user in "uvz" for app in "abd" for daytime in ("noon", None)]  # fmt: skip
    data = log([*rows, *asked], timed=timed)
    trained = history_of(data, data.examples[len(rows) :], max_values=9, fields=FIELDS).measures
    population, histories = population_of(COUNTED, data), user_histories(data)

    for place, row in enumerate(asked):
        query = Query(str(row["user_id"]), {}, _context(row), histories.get(str(row["user_id"]), {}))
        served = _served(population, query, str(row["app_id"]))
        assert {name: trained[name][place] for name in (NOW, BESIDE)} == served


def test_a_user_an_app_or_a_value_that_nobody_knows_counts_for_nothing() -> None:
    population = population_of(COUNTED, log([{"user_id": "u", "app_id": app, "label": 1} for app in "ab"]))
    strange = Query("nobody", {}, {"daytime": "never"}, {"x": 3, "y": 1})

    assert _served(population, strange, "a") == _served(population, strange, "z") == {NOW: 0, BESIDE: 0}


@pytest.mark.parametrize("rows", [[("u", "a"), ("u", "b"), ("v", "b")], []])
def test_tables_come_back_from_their_state(rows: list[tuple[str, str]]) -> None:
    data = log([{"user_id": user, "app_id": app, "label": 1, "at": 5} for user, app in rows]
               + [{"user_id": "w", "app_id": "c", "label": 0, "at": 6}], timed=True)  # fmt: skip
    population = population_of(COUNTED, data)

    texts, arrays = population.to_state()
    again = Population.from_state(texts, arrays)

    assert (again.apps, again.until) == (population.apps, population.until)
    assert again.to_state()[0] == texts
    for name, array in again.to_state()[1].items():
        assert array.tolist() == arrays[name].tolist()


def window(rows: Sequence[Mapping[str, Any]], *, installed: Mapping[str, list[str]] | None = None) -> Dataset:
    """A window of the service's own log: every row with the history and the measures that it was scored with."""
    full = [{"measures": None, "uses": 0.0, "others": 0.0, "app_revision": None, "history": [], **row} for row in rows]
    data = log([{key: value for key, value in row.items() if key not in LOGGED} for row in full], timed=True)
    columns = [pl.Series(name, [row[name] for row in full], dtype=dtype) for name, dtype in LOGGED.items()]
    users = data.users
    if installed:
        lists = pl.Series([installed.get(user, []) for user in users["user_id"]], dtype=pl.List(pl.String))
        users = users.with_columns(installed=lists)
    return replace(data, examples=data.examples.with_columns(columns), users=users)


BEFORE = [{"user_id": user, "app_id": "a", "label": 1, "at": at} for at, user in enumerate("uvw")]
NEW = [
    {"user_id": "x", "app_id": "a", "label": 1, "at": 100},
    {"user_id": "u", "app_id": "a", "label": 1, "at": 101, "uses": 1.0, "history": [{"app_id": "a", "count": 1}]},
    {"user_id": "y", "app_id": "a", "label": 0, "at": 102},
    {"user_id": "y", "app_id": "b", "label": 1, "at": 103},
]


def test_in_a_window_of_the_log_those_known_before_count_on_and_new_users_are_added_once() -> None:
    before = population_of(COUNTED, log(BEFORE, timed=True))

    carried = population_of(COUNTED, window(NEW), before=before)
    again = population_of(COUNTED, window(NEW), before=carried)

    assert _users(carried) == _users(again) == {("a", "noon"): 4, ("b", "noon"): 1}
    assert carried.until == 103_000_000
    assert _users(population_of(COUNTED, window(NEW))) == {("a", "noon"): 2, ("b", "noon"): 1}


def test_what_live_was_trained_on_is_not_added_again_by_the_rows_that_are_learned_again() -> None:
    carried = population_of(COUNTED, window(NEW), before=population_of(COUNTED, log(BEFORE, timed=True)))
    later = [{"user_id": "z", "app_id": "b", "label": 1, "at": 200}]

    assert _users(population_of(COUNTED, window([*NEW, *later]), before=carried)) == {
        ("a", "noon"): 4,
        ("b", "noon"): 2,
    }


def test_from_scratch_the_window_tells_what_its_rows_were_scored_with() -> None:
    told = [{"name": NOW, "value": 30.0}]
    rows = [*NEW, {"user_id": "z", "app_id": "a", "label": 0, "at": 104, "measures": told}]

    assert _users(population_of(COUNTED, window(rows)))[("a", "noon")] == 30


def test_apps_that_go_together_are_those_of_every_user_the_store_knows() -> None:
    installed = {"x": ["a", "b"], "y": ["a", "b"]}
    population = population_of(COUNTED, window(NEW, installed=installed), before=population_of(COUNTED, log(BEFORE)))

    served = _served(population, Query("u", {}, {}, {"a": 1}), "b")

    assert served[BESIDE] == pytest.approx(2 / (2 + PRIOR_USERS))  # beside u, x and y have a, and b too


def test_an_import_is_counted_anew_whatever_was_known_before() -> None:
    before = population_of(COUNTED, log(BEFORE))

    assert _users(population_of(COUNTED, log(BEFORE[:1]), before=before)) == {("a", "noon"): 1}


def test_a_grown_transform_serves_the_carried_tables_on_the_parents_scale() -> None:
    parent = fit(COUNTED, log([*BEFORE, {"user_id": "w", "app_id": "b", "label": 0, "at": 9}], timed=True))

    grown = grow(parent, COUNTED, window(NEW), compact=False)

    assert _users(grown.population) == {("a", "noon"): 4, ("b", "noon"): 1}
    assert grown.quantiles["users_now"] == parent.quantiles["users_now"]
    assert grown.quantiles["beside"] == parent.quantiles["beside"]


def test_a_version_learns_on_from_a_window_and_serves_what_the_rows_were_scored_with() -> None:
    rng = np.random.default_rng(0)
    rows: list[dict[str, Any]] = [
        {"user_id": "uvwx"[rng.integers(4)], "app_id": "abcd"[rng.integers(4)], "label": int(rng.integers(2))}
        | {"at": at, "split": ["train", "train", "stop"][at % 3]}
        for at in range(90)
    ]
    first = trained(CONFIG, log(rows, timed=True))
    parent = bundle_from(first, log(rows, timed=True))
    told = [{"name": NOW, "value": 3.0}, {"name": BESIDE, "value": 0.25}]
    later = window([{**row, "at": row["at"] + 100, "measures": told, "uses": 2.0} for row in rows])

    result = trained(CONFIG, later, WarmStart(parent))

    assert result.transferred is not None
    assert set(encode(result.transform, later, later.examples).statistics[BESIDE]) == {0.25}
    assert _users(result.transform.population) == _users(parent.transform.population)  # all had every app before


def _served(population: Population, query: Query, app_id: str) -> dict[str, float]:
    uses = np.array([query.history.get(app_id, 0.0)])
    apps = population.ordinals_of([app_id])
    measured = population.measured(FIELDS, query, apps=apps, uses=uses)
    return {name: float(values[0]) for name, values in measured.items()}


def _context(row: Row) -> dict[str, str]:
    return {} if row["daytime"] is None else {"daytime": str(row["daytime"])}


def _users(population: Population) -> dict[tuple[str, str], int]:
    table = population.contexts["daytime"]
    return {
        (population.apps[app], value): int(count)
        for place, value in enumerate(table.values)
        for app, count in zip(
            table.apps[table.starts[place] : table.starts[place + 1]],
            table.counts[table.starts[place] : table.starts[place + 1]],
            strict=True,
        )
    }
