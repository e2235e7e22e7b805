from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.data.dataset import promised
from model.data.prepare import ImportOptions, prepare
from model.data.readers import Format, read_log
from model.data.report import ImportRefused
from model.schema import FieldSpec, Kind, LogSpec, NegativeRule, Negatives, Source
from tests.model.data.logs import field, positives_only, raw_log, row, rows, schema

START = datetime(2024, 1, 1, tzinfo=UTC)
COUNTRY = field("country", Source.USER)
PRICE = field("price", Source.APP, Kind.CONTINUOUS)


def timed(count: int = 40, **more: object) -> list[dict[str, Any]]:
    return [row(number, at=START + timedelta(hours=number), **more) for number in range(count)]


def test_frames_have_the_promised_columns_in_their_types() -> None:
    log = LogSpec(at="at", request="list")
    using = schema(COUNTRY, PRICE, log=log)
    dataset, _ = prepare(raw_log(timed(list="r1")), using)
    frames = {"examples": dataset.examples, "apps": dataset.apps, "users": dataset.users}
    for name, columns in promised(using).items():
        extra = {"at": pl.Datetime("us", "UTC"), "request_id": pl.String()} if name == "examples" else {}
        assert dict(frames[name].schema) == columns | extra


def test_columns_of_any_name_are_taken_where_the_schema_points_to_them() -> None:
    given = [{"who": 7, "what": number % 5, "won": number % 2} for number in range(50)]
    dataset, _ = prepare(raw_log(given), schema(log=LogSpec(user="who", app="what", label="won")))
    assert set(dataset.examples["user_id"]) == {"7"}
    assert set(dataset.examples["app_id"]) == {"0", "1", "2", "3", "4"}


def test_facts_say_what_the_log_was() -> None:
    dataset, _ = prepare(raw_log(timed()), schema(log=LogSpec(at="at")))
    facts = dataset.facts
    assert (facts.source, facts.timed, facts.negatives, facts.sampling_rate) == ("test", True, "logged", 1.0)
    assert facts.window == ("2024-01-01T00:00:00+00:00", "2024-01-02T15:00:00+00:00")
    assert facts.counts == {
        "train": 32,
        "train_positive": 11,
        "stop": 4,
        "stop_positive": 1,
        "gate": 4,
        "gate_positive": 2,
    }


def test_apps_of_the_log_that_the_file_lacks_are_added_with_missing_features() -> None:
    apps = [{"app_id": "com.a0", "price": 1.5, "available": False, "countries": ["PT"]}]
    dataset, report = prepare(raw_log(rows(), apps=apps), schema(PRICE))
    assert report.added_apps == 6
    assert dataset.apps.row(0) == ("com.a0", False, ["PT"], 1.5)
    assert dataset.apps.row(1) == ("com.a1", True, [], None)
    assert set(dataset.examples["app_id"]) <= set(dataset.apps["app_id"])


def test_the_last_of_a_doubled_record_wins_and_is_counted() -> None:
    apps = [{"app_id": "com.a0", "price": 1.0}, {"app_id": "com.a1", "price": 2.0}, {"app_id": "com.a0", "price": 3.0}]
    users = [{"user_id": "u0", "country": "PT"}, {"user_id": "u0", "country": "ES"}]
    dataset, report = prepare(raw_log(rows(), apps=apps, users=users), schema(PRICE, COUNTRY))
    assert [(file.file, file.kept, file.duplicates) for file in report.files[1:]] == [
        ("apps.parquet", 2, 1),
        ("users.parquet", 1, 1),
    ]
    assert dataset.apps.filter(app_id="com.a0")["price"].to_list() == [3.0]
    assert set(dataset.examples.filter(user_id="u0")["country"]) == {"ES"}


def test_a_user_field_comes_from_the_row_else_from_the_users_file() -> None:
    given = rows()
    given[0]["country"] = "FR"
    users = [{"user_id": "u0", "country": "PT"}]
    log = raw_log(given, users=users)
    absent = {"country": log.events.frame["country"].is_null()}
    dataset, _ = prepare(replace(log, events=replace(log.events, absent=absent)), schema(COUNTRY))
    assert dataset.examples.filter(user_id="u0")["country"].to_list() == ["FR", *["PT"] * 5]
    assert dataset.examples.filter(user_id="u1")["country"].null_count() == 6


def test_users_are_all_that_are_listed_or_seen_with_what_is_last_known() -> None:
    given = timed(country="PT")
    given[-1]["country"] = "ES"
    users: list[dict[str, Any]] = [{"user_id": "u9", "country": "FR", "installed": ["com.z", None, "com.z"]}]
    users += [{"user_id": "x"}]
    dataset, _ = prepare(raw_log(given[::-1], users=users), schema(COUNTRY, log=LogSpec(at="at")))
    assert dataset.users.height == 11
    assert dataset.users.row(by_predicate=pl.col("user_id") == "u9") == ("u9", ["com.z"], "FR")
    assert dataset.users.row(by_predicate=pl.col("user_id") == "u8") == ("u8", [], "PT")
    assert dataset.users.row(by_predicate=pl.col("user_id") == "x")[1] == []


def test_what_a_user_was_last_seen_with_goes_by_time_not_by_row() -> None:
    given = timed(20, country="PT")
    given[-1]["country"] = "ES"
    dataset, _ = prepare(raw_log(given[::-1]), schema(COUNTRY, log=LogSpec(at="at")))
    assert dataset.users.filter(user_id="u9")["country"].to_list() == ["ES"]


@pytest.mark.parametrize("rule", NegativeRule)
def test_negatives_stay_with_their_positive_in_time_split_and_context(rule: NegativeRule) -> None:
    log = positives_only(at="at").model_copy(update={"negatives": Negatives(rule=rule, per_positive=2)})
    given = [row(number, at=START + timedelta(hours=number), daytime=f"d{number}") for number in range(60)]
    dataset, report = prepare(raw_log(given), schema(log=log))
    assert report.other_events == 40
    assert report.negatives == dataset.examples["label"].eq(0).sum() == 40
    groups = dataset.examples.group_by("at", maintain_order=True).agg(pl.col("user_id", "split", "daytime").n_unique())
    assert groups.drop("at").unique().rows() == [(1, 1, 1)]
    assert dataset.examples["label"].head(3).to_list() == [1, 0, 0]
    assert dataset.facts.negatives == rule
    assert 0 < dataset.facts.sampling_rate < 1


def test_a_log_of_positives_needs_no_label_column() -> None:
    given = [{key: value for key, value in item.items() if key != "label"} for item in rows()]
    dataset, _ = prepare(raw_log(given), schema(log=positives_only()))
    assert dataset.examples["label"].sum() == 60


def test_a_label_column_that_the_schema_names_and_the_log_lacks_is_refused() -> None:
    misspelt = LogSpec(label="lable", positive=("install",), negatives=Negatives())
    with pytest.raises(ImportRefused, match="has no column 'lable'"):
        prepare(raw_log(rows()), schema(log=misspelt))


def test_apps_installed_before_the_log_are_never_drawn() -> None:
    users = [{"user_id": f"u{number}", "installed": ["com.a1", "com.a2"]} for number in range(10)]
    dataset, _ = prepare(raw_log(rows(), users=users), schema(log=positives_only()))
    assert not {"com.a1", "com.a2"} & set(dataset.examples.filter(label=0)["app_id"])


def test_a_seed_repeats_an_import_and_another_draws_other_negatives() -> None:
    log, using = raw_log(rows()), schema(log=positives_only())
    once, again, other = (prepare(log, using, options=ImportOptions(seed=seed))[0].examples for seed in (1, 1, 2))
    assert once.equals(again)
    assert not once.equals(other)


def test_the_rows_of_a_request_share_a_split_where_the_log_has_no_time() -> None:
    given = [row(number, list=f"r{number // 5}") for number in range(500)]
    dataset, _ = prepare(raw_log(given), schema(log=LogSpec(request="list")))
    assert dataset.examples.group_by("request_id").agg(pl.col("split").n_unique())["split"].max() == 1
    assert dataset.examples["split"].n_unique() == 3


def test_the_same_log_is_read_alike_from_every_format(tmp_path: Path) -> None:
    battery = field("battery", Source.CONTEXT, Kind.CONTINUOUS)
    frame = pl.DataFrame([item | {"battery": number / 8} for number, item in enumerate(rows())])
    frame.write_parquet(tmp_path / "events.parquet")
    frame.write_csv(tmp_path / "events.csv")
    frame.write_ndjson(tmp_path / "events.jsonl")
    first, *others = (prepare(read_log(tmp_path, each), schema(battery))[0].examples for each in Format)
    assert all(first.equals(other) for other in others)


def test_a_log_without_positives_is_refused_with_its_rule() -> None:
    given = [row(number, label=0) for number in range(9)]
    with pytest.raises(ImportRefused, match=r"none of the 9 good rows .* is positive by the rule `label` in 1, true"):
        prepare(raw_log(given), schema())


def test_a_log_without_negatives_is_refused_with_the_way_out() -> None:
    given = [row(number, label=1) for number in range(9)]
    with pytest.raises(ImportRefused, match=r"all 9 good rows .* add `negatives: \{rule: unused, per_positive: 4\}`"):
        prepare(raw_log(given), schema())


def test_a_store_of_one_app_is_refused() -> None:
    given = [row(number, app_id="only", label=1) for number in range(99)]
    with pytest.raises(ImportRefused, match="no negatives can be drawn: each user has used all of the 1 apps"):
        prepare(raw_log(given), schema(log=positives_only()))


@pytest.mark.parametrize("content", ["user_id,app_id,label\n", "user_id,app_id,label"])
def test_a_file_of_a_header_alone_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "events.csv"
    path.write_text(content)
    with pytest.raises(ImportRefused, match=r"none of the 0 rows of events.csv is good"):
        prepare(read_log(path, Format.CSV), schema())


def test_a_log_of_malformed_lines_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("{\n{\n")
    with pytest.raises(
        ImportRefused, match=r"none of the 2 rows of events.jsonl is good: Input data was truncated \(2\)"
    ):
        prepare(read_log(path, Format.JSONL), schema())


def test_a_split_column_that_leaves_a_split_empty_is_refused() -> None:
    given = [row(number, part="train") for number in range(9)]
    with pytest.raises(ImportRefused, match="there are: train 9, stop 0, gate 0"):
        prepare(raw_log(given), schema(log=LogSpec(split="part")))


@pytest.mark.parametrize(
    "spec", [field("split", Source.CONTEXT), field("installed", Source.USER), field("available", Source.APP)]
)
def test_a_field_named_as_a_column_of_the_dataset_is_refused(spec: FieldSpec) -> None:
    using = schema().model_copy(update={"fields": (spec,)})
    with pytest.raises(ImportRefused, match=f"a {spec.source} field cannot be named {spec.name}"):
        prepare(raw_log(rows()), using)


def test_a_report_is_plain_json() -> None:
    _, report = prepare(raw_log([*rows(), row(1, daytime="\x01")]), schema())
    plain = report.to_json()
    assert plain["fault_count"] == 1
    assert plain["counts"] == {"daytime: a control character in a text": 1}
    assert str(report.faults[0]) == r"events.parquet row 61, daytime: '\x01': a control character in a text"


def test_positions_are_kept_and_what_was_drawn_stood_nowhere() -> None:
    given = [row(number, slot=number % 5 + 1 if number % 4 else None) for number in range(40)]
    dataset, _ = prepare(raw_log(given), schema(log=LogSpec(position="slot")))
    assert dataset.examples["position"].dtype == pl.Int32
    assert dataset.examples["position"].to_list() == [item["slot"] for item in given]
    positives = [item for item in given if item["label"]]
    drawn, report = prepare(raw_log(positives), schema(log=positives_only(position="slot")))
    assert report.negatives > 0
    assert drawn.examples.filter(label=0)["position"].null_count() == report.negatives
    assert drawn.examples.filter(label=1)["position"].to_list() == [item["slot"] for item in positives]


@pytest.mark.parametrize("name", ["position", "history", "uses", "others", "app_revision"])
def test_a_field_may_not_be_named_as_a_column_that_the_service_logs(name: str) -> None:
    with pytest.raises(ImportRefused, match=f"a context field cannot be named {name}; rename it"):
        prepare(raw_log(rows()), schema(field(name, Source.CONTEXT, Kind.CONTINUOUS)))
