from pathlib import Path
from typing import Any

import pytest

from model.schema import FeatureSchema, SchemaError, dump_schema, parse_schema, read_schema
from tests.model.worlds import SCHEMA

COUNTRY = {"name": "country", "source": "context", "kind": "categorical"}
APP = {"name": "app_id", "source": "app", "kind": "categorical"}


def schema(*fields: dict[str, Any], **more: Any) -> FeatureSchema:  # noqa: ANN401  # whatever a schema holds
    return FeatureSchema.model_validate({"fields": [*fields, APP], **more})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("fields: [", "is not YAML"),
        ("", "is empty; draft one"),
        ("# later", "is empty; draft one"),
        ("fields: []", "fields"),
        ("fields: [{name: Country, source: context, kind: categorical}]", "fields.0.name"),
        ("fields: [{name: a, source: phone, kind: categorical}]", "fields.0.source"),
        ("fields: [{name: a, source: app, kind: categorical}]\ncolour: red", "colour"),
        ("fields: [{name: a, source: app, kind: categorical}, {name: a, source: app, kind: multi}]", "named twice: a"),
        ("fields: [{name: a, source: history, kind: categorical}]", "a history field is multi"),
        ("fields: [{name: a, source: pair, kind: continuous}]", "'of' goes with source pair"),
        ("fields: [{name: a, source: pair, kind: multi, of: uses}]", "a pair field is continuous"),
        ("fields: [{name: a, source: pair, kind: continuous, of: uses, by: b}]", "for 'of: in_context' alone"),
        ("fields: [{name: a, source: pair, kind: continuous, of: in_context}]", "'by' names the field to count by"),
        ("fields: [{name: a, source: pair, kind: continuous, of: in_context, by: b}]", "'b' is no categorical user or"),
        ("fields: [{name: a, source: app, kind: categorical, required: true}]", "cannot be required in a request"),
        (
            "fields: [{name: a, source: app, kind: categorical}]\ncrosses: [{fields: [a, b]}]",
            "no field 'b'; there are a",
        ),
        ("fields: [{name: a, source: app, kind: categorical}]\nretired: [a]", "both declared and retired: a"),
    ],
)
def test_what_is_no_schema_is_refused_by_its_place(text: str, words: str) -> None:
    with pytest.raises(SchemaError, match=r"^mine\.yaml") as refused:
        parse_schema(text, origin="mine.yaml")
    assert words in str(refused.value)


def test_one_field_holds_the_history() -> None:
    past = [{"name": name, "source": "history", "kind": "multi"} for name in ("installed", "owned")]
    with pytest.raises(ValueError, match="several history fields: installed, owned"):
        schema(*past)


@pytest.mark.parametrize(
    ("kind", "words"), [("continuous", "a cross takes ids"), ("multi", "at most one multi-valued")]
)
def test_a_cross_takes_ids_and_one_list_at_most(kind: str, words: str) -> None:
    other = {"name": "tags", "source": "app", "kind": kind}
    with pytest.raises(ValueError, match=words):
        schema(COUNTRY, other, crosses=[{"fields": ["country", "tags"]}])


def test_a_schema_round_trips_through_its_text(tmp_path: Path) -> None:
    file = tmp_path / "schema.yaml"
    file.write_text(dump_schema(SCHEMA), encoding="utf-8")
    assert read_schema(file) == SCHEMA


def test_a_file_that_is_not_there_is_a_sentence_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="appshelf draft"):
        read_schema(tmp_path / "schema.yaml")


@pytest.mark.parametrize(
    ("by", "hint"),
    [("user_id", "own uses are 'of: uses'"), ("app_id", "there are country"), ("age", "there are country")],
)
def test_users_are_counted_by_a_category_of_the_request(by: str, hint: str) -> None:
    user, age = (
        {"name": name, "source": "user", "kind": kind}
        for name, kind in (("user_id", "categorical"), ("age", "continuous"))
    )
    counted = {"name": "there", "source": "pair", "kind": "continuous", "of": "in_context"}
    assert schema(user, COUNTRY, {**counted, "by": "country"}).fields[2].measure == "in_context.country"
    with pytest.raises(ValueError, match=hint):
        schema(user, age, COUNTRY, {**counted, "by": by})


def test_a_schema_without_counts_by_value_has_the_fingerprint_that_it_always_had() -> None:
    assert SCHEMA.fingerprint() == "e8a16d37ea83f02fa664cd47a88d14cc00a56ec87af09987e90d9a88e5b10e5e"


def test_the_fingerprint_is_of_what_shapes_the_input_alone() -> None:
    one = schema(COUNTRY)
    assert one.fingerprint() == schema(COUNTRY, log={"user": "uid"}).fingerprint()
    assert one.fingerprint() != schema({**COUNTRY, "min_count": 2}).fingerprint()


@pytest.mark.parametrize(
    ("challenger", "reasons"),
    [
        (schema(COUNTRY), []),
        (schema(COUNTRY, {"name": "city", "source": "context", "kind": "categorical"}), []),
        (schema(retired=["country"]), []),
        (schema(), ["context field 'country' is gone and not listed as retired"]),
        (schema({**COUNTRY, "required": True}), ["context field 'country' is newly required"]),
        (schema({**COUNTRY, "kind": "multi"}), ["context field 'country' was categorical and is now multi"]),
    ],
)
def test_a_challenger_may_ask_no_more_of_lives_clients(challenger: FeatureSchema, reasons: list[str]) -> None:
    assert challenger.incompatibilities(schema(COUNTRY)) == reasons
    assert challenger.compatible(schema(COUNTRY)) is not bool(reasons)
