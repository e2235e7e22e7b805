from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from model.query import Query, ValueRefused
from model.request_side import RECENT, RequestSide
from model.schema import FeatureSchema
from model.scorer import Scorer
from tests.model.encoders import EVERYTHING, queries, schemas, scorer_of
from tests.model.families import FORMS, Form

SCORER = scorer_of(EVERYTHING)


def check(side: RequestSide, scorer: Scorer, query: Query) -> None:
    """The encoded query is what the plain scorer makes of it."""
    encoded = side.encode(query)
    with torch.inference_mode():
        expected = scorer.net.request_part(scorer.request_side(query))
    parts = side.parts([encoded])
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        torch.testing.assert_close(part, expected[name], rtol=1e-5, atol=1e-5)
    assert encoded.statuses == scorer.observe(query)


@pytest.mark.parametrize("form", FORMS.values(), ids=list(FORMS))
@settings(deadline=None, max_examples=20)
@given(st.data(), st.booleans())
def test_a_request_is_encoded_as_the_plain_scorer_does_whatever_was_kept(
    form: Form, data: st.DataObject, additive: bool
) -> None:
    schema = data.draw(schemas())
    scorer = scorer_of(schema, architecture=form.architecture, params=form.params)
    scorer.net.additive = additive and scorer.net.additive
    side = RequestSide(scorer, users=2)

    for query in data.draw(st.lists(queries(schema), min_size=1, max_size=5)):
        check(side, scorer, query)


@settings(deadline=None)
@given(st.lists(queries(EVERYTHING), min_size=1, max_size=5), st.booleans())
def test_crosses_of_user_and_context_are_added_when_both_are_known(asked: list[Query], additive: bool) -> None:
    scorer = replace(SCORER)
    scorer.net.additive = additive
    side = RequestSide(scorer, users=2)

    for query in asked:
        check(side, scorer, query)


def test_the_last_query_of_each_recent_user_is_remembered() -> None:
    side = RequestSide(SCORER, users=1)

    for number in range(RECENT + 2):
        side.encode(Query(f"u{number}", {"plan": "v1"}))
    side.encode(Query("u5", {"plan": "v2"}))

    recent = {query.user_id: query for query in side.recent()}
    assert len(recent) == RECENT - 1
    assert recent["u5"].user == {"plan": "v2"}
    assert {"u0", "u1", "u2"}.isdisjoint(recent)


def test_a_user_who_changed_is_read_again() -> None:
    side = RequestSide(SCORER, users=10)

    for query in (
        Query("v0", {"plan": "v1"}),
        Query("v0", {"plan": "v2"}),
        Query("v0", {"plan": "v2"}, history={"v1": 1, "v2": 1, "v3": 1, "v4": 1, "v5": 1}),
        Query("v0", {"plan": "v2"}, history={"v5": 1, "v2": 1, "v3": 1, "v4": 1, "v1": 1}),
        Query("v0", {"plan": 2}),
        Query("v0", {"plan": True}),
        Query("v0", {"plan": 1}),
        Query("v0", {}),
        Query("v0", {"plan": None}),
    ):
        check(side, SCORER, query)


def test_values_changed_in_place_are_read_again() -> None:
    side, likes = RequestSide(SCORER, users=10), ["v1"]
    query = Query("v0", {"likes": likes})
    side.encode(query)

    likes.append("v2")

    check(side, SCORER, query)


def test_a_context_may_set_a_users_field_and_a_user_a_contexts() -> None:
    side = RequestSide(SCORER, users=10)

    for query in (
        Query("v0", {"plan": "v1"}, {"plan": "v2", "user_id": "v4"}),
        Query("v0", {"plan": "v1", "daytime": "v3"}),
        Query("v0", {"plan": "v1"}, {}),
        Query("v0", {"daytime": "v3"}, {"daytime": "v1"}),
    ):
        check(side, SCORER, query)


@pytest.mark.parametrize("query", [
    Query("v0", {"age": "old"}), Query("v0", {"age": float("nan")}), Query("v0", {"likes": "v1"}),
    Query("v0", {}, {"daytime": 1.5}), Query("v0", {}, {"speed": True}), Query("v0", {"plan": "x" * 600}),
])  # fmt: skip
def test_what_the_plain_scorer_refuses_is_refused(query: Query) -> None:
    side = RequestSide(SCORER, users=10)

    for _ in range(2):
        with pytest.raises(ValueRefused):
            side.encode(query)
        check(side, SCORER, Query("v0"))


def test_only_so_many_users_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    side, read = RequestSide(SCORER, users=2), list[str]()
    plain = side._read

    def counted(query: Query, seen: object) -> object:
        read.append(query.user_id)
        return plain(query, seen)

    monkeypatch.setattr(side, "_read", counted)

    for user_id in ("a", "b", "a", "c", "a", "b"):
        side.encode(Query(user_id))

    assert read == ["a", "b", "c", "b"]


def test_a_schema_without_a_context_or_a_history_is_encoded_too() -> None:
    fields = tuple(field for field in EVERYTHING.fields if field.name in ("user_id", "app_id"))
    scorer = scorer_of(FeatureSchema(fields=fields))

    check(RequestSide(scorer, users=1), scorer, Query("v0"))
