"""A grown transform: old ids stay, new values follow, and what was known keeps its meaning."""

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model.data.dataset import Dataset
from model.fitting import fit
from model.growth import grow, known_crosses, known_fields
from model.schema import FeatureSchema
from model.vocabulary import FIRST_ID, UNKNOWN_ID, Vocabulary
from tests.model.worlds import SCHEMA, dataset

COUNTS = st.dictionaries(st.one_of(st.sampled_from("abcdefgh"), st.none()), st.integers(1, 6))


def rows(*pairs: tuple[str, str]) -> Dataset:
    return dataset([{"user_id": user, "app_id": app, "label": place % 2} for place, (user, app) in enumerate(pairs)])


FIRST = rows(("u", "a"), ("u", "a"), ("u", "b"), ("v", "b"))
SECOND = rows(("w", "c"), ("u", "a"), ("w", "c"))


def changed(**fields: dict[str, Any]) -> FeatureSchema:
    """The schema with some fields described otherwise."""
    state = SCHEMA.model_dump(mode="json")
    state["fields"] = [{**field, **fields.get(field["name"], {})} for field in state["fields"]]
    return FeatureSchema.model_validate(state)


@given(before=COUNTS, now=COUNTS, least=st.integers(1, 4), compact=st.booleans())
def test_a_vocabulary_grows_as_a_naive_loop_says(
    before: dict[str | None, int], now: dict[str | None, int], least: int, compact: bool
) -> None:
    parent = Vocabulary.fit("f", before, min_count=least)

    grown = parent.grown(now, min_count=least, compact=compact)

    kept = [value for value in parent.values if not compact or value in now]
    new = [value for value in now if value and value not in parent.values and now[value] >= least]
    assert grown.values[: len(kept)] == tuple(kept)
    assert sorted(grown.values[len(kept) :]) == sorted(new)
    for value in grown.values:
        held = parent.counts[parent.index[value]] if value in parent.index else 0
        assert grown.counts[grown.index[value]] == held + now.get(value, 0)
    rare = sum(now[value] for value in now if value and value not in grown.values)
    assert grown.counts[UNKNOWN_ID] == parent.counts[UNKNOWN_ID] + rare
    assert len(grown.counts) == grown.size


def test_old_values_keep_their_ids_and_new_ones_follow() -> None:
    parent = fit(SCHEMA, FIRST)

    grown = grow(parent, SCHEMA, SECOND, compact=False)

    before, after = parent.vocabularies["user_id"], grown.vocabularies["user_id"]
    assert after.values == (*before.values, "w")
    assert after.counts[FIRST_ID:].tolist() == [3 + 1, 1, 2]


def test_compacting_drops_values_and_keys_that_are_gone_cold() -> None:
    parent = fit(SCHEMA, FIRST)

    grown = grow(parent, SCHEMA, SECOND, compact=True)

    assert grown.vocabularies["user_id"].values == ("u", "w")
    assert grown.vocabularies["app_id"].values == ("a", "c")
    assert len(grown.crosses.seen["daytime*app_id"]) == 2
    assert set(parent.crosses.seen["daytime*app_id"]) & set(grown.crosses.seen["daytime*app_id"])


def test_an_exact_cross_keeps_its_keys_and_takes_in_new_ones_that_are_frequent_enough() -> None:
    parent = fit(SCHEMA, FIRST)

    grown = grow(parent, SCHEMA, SECOND, compact=False)

    for name, new in (("daytime*app_id", 1), ("user_id*daytime*app_id", 1)):
        before, after = parent.crosses.seen[name], grown.crosses.seen[name]
        assert set(before) < set(after)
        assert len(after) == len(before) + new
        assert np.all(np.diff(after) > 0)


def test_a_known_number_keeps_its_quantiles_and_a_new_one_is_fitted() -> None:
    parent = fit(changed(rating={"name": "stars"}), FIRST)
    older = replace(SECOND, examples=SECOND.examples.with_columns(age=pl.lit(70.0)))

    grown = grow(parent, SCHEMA, older, compact=False)

    assert grown.quantiles["age"] == parent.quantiles["age"]
    assert grown.quantiles["rating"] == fit(SCHEMA, older).quantiles["rating"]
    assert "stars" not in grown.quantiles


def test_a_field_of_another_side_or_meaning_is_a_new_one() -> None:
    moved = changed(own_uses={"of": "others"}, daytime={"source": "app"}, age={"kind": "categorical"})

    unknown = {field.name for field in SCHEMA.fields} - known_fields(SCHEMA, moved)

    assert unknown == {"own_uses", "daytime", "age"}
    assert known_crosses(SCHEMA, moved) == {"installed*app_id"}
    grown = grow(fit(SCHEMA, FIRST), moved, SECOND, compact=False)
    assert grown.vocabularies["daytime"].counts.sum() == 3


@pytest.mark.parametrize("change", [{"bits": 11}, {"exact": True}])
def test_a_cross_whose_rows_mean_something_else_is_a_new_one(change: dict[str, Any]) -> None:
    state = SCHEMA.model_dump(mode="json")
    state["crosses"][0] |= change

    assert "installed*app_id" not in known_crosses(SCHEMA, FeatureSchema.model_validate(state))


def test_growing_on_the_same_log_adds_nothing_but_counts() -> None:
    parent = fit(SCHEMA, FIRST)

    grown = grow(parent, SCHEMA, FIRST, compact=False)

    assert grown.sizes == parent.sizes
    assert grown.audience == parent.audience
    assert all((grown.vocabularies[name].counts == 2 * v.counts).all() for name, v in parent.vocabularies.items())
