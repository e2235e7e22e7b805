"""The quick wire of `POST /rank` against the documented one: the same bodies taken, with the same values."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from service.admission import Refused
from service.api.bounds import Bounds
from service.api.messages import RankAnswer, RankRequest
from service.api.rank import query_of
from service.api.rank_wire import NAMES_KEPT, RankReader, written
from service.ordering import Ranked
from service.ranker import Notice, Ranking, RankQuery

BOUNDS = Bounds(max_candidates=10_000, max_k=2**70)
U1 = {"id": "u1"}

letters = st.characters(exclude_categories=()) | st.sampled_from('\x00\x1f\x7f\x80\n"\\/é\u2028\ud800\udfff😀')
texts = st.text(letters, max_size=4) | st.sampled_from(["", "x" * 512, "x" * 513, "é" * 512, "😀" * 513])
edges = [n + d for n in (0, 1, 2**53, 2**63, 2**64, -(2**63)) for d in (-1, 0, 1)]
numbers = (
    st.sampled_from([*edges, 10**30, 10**400, 1.0, -0.0, 1e5, 2.0**63, 1e308, 5e-324]) | st.integers() | st.floats()
)
scalars = st.none() | st.booleans() | numbers | texts
anything = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3), max_leaves=6
)
good_ids = st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=6)
good_names = st.from_regex(r"[a-z][a-z0-9_]{0,8}", fullmatch=True)
good_values = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | good_ids
    | st.just("")
    | st.lists(good_ids, max_size=3)
)
ids = good_ids | texts
features = st.dictionaries(good_names, good_values | scalars, max_size=3)


def bodies(ids: st.SearchStrategy[str], features: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Bodies with each member there or not."""
    counts = st.dictionaries(ids, st.integers(1, 2**63 - 1), max_size=3)
    user = st.fixed_dictionaries(
        {"id": ids},
        optional={
            "features": features,
            "installed": st.none() | st.lists(ids, max_size=3),
            "uses": st.none() | counts,
        },
    )
    return st.fixed_dictionaries(
        {"user": user},
        optional={
            "context": features,
            "candidates": st.none() | st.lists(ids, min_size=1, max_size=4),
            "k": st.integers(1, 2**65),
            "exclude": st.lists(ids, max_size=3),
            "explain": st.just(False),
        },
    )


@st.composite
def altered(draw: st.DrawFn) -> dict[str, Any]:
    """A body with anything at all in one place, or one member more than there should be."""
    body = draw(bodies(ids, features))
    place: Any = body
    while isinstance(place, dict | list) and place:
        keys = list(place) if isinstance(place, dict) else list(range(len(place)))
        key = draw(st.sampled_from(keys))
        if draw(st.booleans()) or not isinstance(place[key], dict | list):
            break
        place = place[key]
    if isinstance(place, dict) and (not place or draw(st.booleans())):
        place[draw(st.sampled_from(["kk", "features", "uses", "explain", "k"]) | texts)] = draw(anything)
    elif place:
        place[key] = draw(anything)
    return body


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A body's text with a piece of it doubled, dropped or overwritten: double members, other numbers, no JSON."""
    text = json.dumps(draw(bodies(ids, features)), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    start, length = draw(st.integers(0, len(text))), draw(st.integers(0, 12))
    pieces = [b"", b"NaN", b"-Infinity", b"1e999", b"1.0", b"-0", b"0", b"true", b'"k": 1.0, ', b'"explain": 0, ']
    pieces += [b"\\u0000", b"\\ud800", b"\\/", b"\xff", b"\xed\xa0\x80", b"\x00", b"\x7f", b"\xef\xbb\xbf", b",", b"]}"]
    piece = draw(st.sampled_from(pieces) | st.binary(max_size=3) | st.just(text[start : start + length] * 2))
    return text[:start] + piece + text[start + draw(st.sampled_from([0, length])) :]


def documented(body: bytes) -> RankQuery | None:
    """The query of a body by the documented model; None where that refuses it."""
    try:
        return query_of(RankRequest.model_validate(json.loads(body)), BOUNDS)
    except (ValidationError, ValueError, RecursionError):
        return None


def quick(body: bytes) -> RankQuery | None:
    read = RankReader()(body)
    try:
        return query_of(read, BOUNDS) if read else None
    except Refused:
        return None


def values(query: RankQuery | None) -> str:
    """A query with the types of its values to be seen, where 1, 1.0 and True are equal."""
    return repr(query)


@settings(max_examples=200, deadline=None)
@given(bodies(good_ids, st.dictionaries(good_names, good_values, max_size=3)), st.booleans())
def test_every_right_body_is_read_with_the_values_of_the_documented_model(body: dict[str, Any], ascii: bool) -> None:
    text = json.dumps(body, ensure_ascii=ascii).encode()
    assert values(quick(text)) == values(documented(text)) != "None"


@settings(max_examples=300, deadline=None)
@given(altered(), st.booleans())
def test_a_body_with_anything_in_one_place_is_read_or_left_as_the_documented_model_has_it(
    body: dict[str, Any], ascii: bool
) -> None:
    text = json.dumps(body, ensure_ascii=ascii).encode("utf-8", "surrogatepass")
    assert values(quick(text)) == values(documented(text))


@settings(max_examples=300, deadline=None)
@given(damaged())
def test_what_is_read_of_a_damaged_body_is_what_the_documented_model_reads(text: bytes) -> None:
    read = quick(text)
    assert read is None or values(read) == values(documented(text))


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_bytes_that_are_no_body_are_left(text: bytes) -> None:
    assert quick(text) is None


@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100_000,
        b'{"user":' * 100_000,
        b'{"user": {"id": "u1", "features": {"x": ' + b"[" * 100_000,
        b'{"user": {"id": "u1"}, "k": ' + b"9" * 5_000 + b"}",
        b'{"user": {"id": "u1"}, "k": true}',
        b'{"user": {"id": "u1"}, "k": 10.0}',
        b'{"user": {"id": "u1"}, "explain": true}',
        b'{"user": {"id": "u1", "uses": {"a": 1.0}}}',
        b'{"user": {"id": "u1", "uses": {"a": 9223372036854775808}}}',
        b'{"user": {"id": "u1"}, "context": {"x": 18446744073709551616}}',
        b'{"user": {"id": "u1"}, "context": {"x\\n": 1}}',
        b'{"user": {"id": "u1"}, "context": {"x": NaN}}',
        b'{"user": {"id": "u1\\u007f"}}',
        b'{"user": {"id": "u1\x7f"}}',
        b'{"user": {"id": "u1", "features": {"x": ["a", "\\u001f"]}}}',
        b'{"user": {"id": "\\ud800"}}',
        b'{"user": {"id": "\xed\xa0\x80"}}',
    ],
)
def test_what_the_documented_model_refuses_is_left_to_it(text: bytes) -> None:
    assert documented(text) is None
    assert quick(text) is None


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"user": U1}).encode("utf-16"),
        b"\xef\xbb\xbf" + json.dumps({"user": U1}).encode(),
        b'{"user": {"id": "u1"}, "k": 10.0, "k": 10}',
        b'{"user": {"id": "u1"}, "context": {"x": NaN, "x": 1}}',
    ],
)
def test_what_only_the_documented_model_reads_is_left_to_it(text: bytes) -> None:
    assert documented(text) is not None
    assert quick(text) is None


@pytest.mark.parametrize("zero", [b"false", b"0", b"-0", b"0.0", b"-0.0", b"0e5", b"1e-999"])
def test_a_zero_says_that_nothing_is_to_be_explained(zero: bytes) -> None:
    text = b'{"user": {"id": "u1"}, "explain": ' + zero + b"}"
    assert values(quick(text)) == values(documented(text)) == values(RankQuery("u1"))


@pytest.mark.parametrize("text", [b'{"k": 1, "user": {"id": "a"}, "k": 2, "user": {"id": "b"}}'])
def test_of_a_member_given_twice_the_last_counts(text: bytes) -> None:
    assert values(quick(text)) == values(documented(text)) == values(RankQuery("b", k=2))


def test_names_without_end_are_all_looked_at_and_not_all_remembered() -> None:
    reader = RankReader()
    for batch in range(3):
        names = {f"f{batch}_{number}": 1 for number in range(NAMES_KEPT)}
        assert reader(json.dumps({"user": U1, "context": names}).encode()) is not None
    assert reader(json.dumps({"user": U1, "context": {"f2_1": 1, "NO": 1}}).encode()) is None
    assert len(reader._names) <= NAMES_KEPT


notices = st.builds(Notice, st.sampled_from(["unknown_app", "duplicate"]), good_ids) | st.just(Notice("unknown_user"))
rankings = st.builds(
    Ranking,
    version=good_ids,
    items=st.lists(st.builds(Ranked, good_ids, st.floats(0, 1)), max_size=4).map(tuple),
    degraded=st.lists(good_ids, max_size=2).map(tuple),
    notices=st.lists(notices, max_size=3).map(tuple),
    took_ms=st.floats(0, 1e6),
)


@given(rankings)
def test_the_answer_is_one_of_the_documented_kind_without_its_nulls(ranking: Ranking) -> None:
    body = written(ranking, request_id="r1")
    answer = RankAnswer.model_validate_json(body)
    assert json.loads(body) == answer.model_dump(exclude_none=True)
    assert [(one.rank, one.app_id, one.score) for one in answer.items] == [
        (rank, one.app_id, one.score) for rank, one in enumerate(ranking.items, 1)
    ]
    assert [(one.code, one.app_id) for one in answer.warnings] == [(one.code, one.app_id) for one in ranking.notices]
    assert (answer.version, tuple(answer.degraded)) == (ranking.version, ranking.degraded)
