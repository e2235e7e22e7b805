from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.data.draft import draft
from model.data.prepare import prepare
from model.data.readers import Format, RawLog, read_log
from model.data.report import ImportRefused
from model.schema import FeatureSchema, Kind, LogSpec, Negatives, Source, dump_schema, parse_schema
from tests.model.data.logs import raw_log, row, rows

COUNT = 400


def store(**more: Any) -> list[dict[str, Any]]:  # noqa: ANN401 - columns of any type, a function of the row's number
    """A log of 20 users and 30 apps; `more` maps a column to what it holds in the n-th row."""
    return [
        {"user": n % 20, "package": f"com.a{n * 7 % 30}", "timestamp": 1_700_000_000 + n, "label": n % 2}
        | {name: value(n) for name, value in more.items()}
        for n in range(COUNT)
    ]


def kinds(schema: FeatureSchema, source: Source) -> dict[str, Kind]:
    return {name: spec.kind for name, spec in schema.from_source(source).items()}


def imports(log: RawLog) -> FeatureSchema:
    """The drafted schema, which must survive its file and import every row."""
    drafted = draft(log).schema
    assert parse_schema(dump_schema(drafted)) == drafted
    _, report = prepare(log, drafted)
    assert report.fault_count == 0
    return drafted


def test_user_app_time_and_label_are_found_by_name() -> None:
    schema = imports(raw_log(store()))
    assert schema.log == LogSpec(user="user", app="package", at="timestamp", label="label")


@pytest.mark.parametrize("name", ["position", "Rank", "slot"])
def test_where_an_app_stood_is_found_by_name_and_is_no_field(name: str) -> None:
    schema = imports(raw_log(store(**{name: lambda n: n % 7 + 1})))
    assert schema.log.position == name
    assert name not in {field.name for field in schema.fields}


def test_columns_become_fields_by_their_values() -> None:
    log = raw_log(
        store(
            daytime=lambda n: ["am", "pm"][n // 7 % 2],
            battery=lambda n: n / COUNT,
            tags=lambda n: ["x", "y"][: n % 7 % 3],
            age=lambda n: n % 20 % 3,
        )
    )
    schema = imports(log)
    assert kinds(schema, Source.CONTEXT) == {
        "daytime": Kind.CATEGORICAL,
        "battery": Kind.CONTINUOUS,
        "tags": Kind.MULTI,
    }
    assert kinds(schema, Source.USER) == {"user_id": Kind.CATEGORICAL, "age": Kind.CATEGORICAL}
    assert kinds(schema, Source.HISTORY) == {"installed": Kind.MULTI}
    assert [cross.name for cross in schema.crosses] == ["installed*app_id", "daytime*app_id", "age*app_id"]


def test_apps_and_users_files_give_their_own_fields() -> None:
    apps = [{"package": f"com.a{n}", "genre": "xy"[n % 2], "price": n / 7, "available": True} for n in range(60)]
    users = [{"user": n, "country": "PT", "owned": ["com.a1"]} for n in range(20)]
    log = raw_log(store(genre=lambda n: "x"), apps=apps, users=users)
    schema = imports(log)
    assert kinds(schema, Source.APP) == {
        "app_id": Kind.CATEGORICAL,
        "genre": Kind.CATEGORICAL,
        "price": Kind.CONTINUOUS,
    }
    assert kinds(schema, Source.USER) == {"user_id": Kind.CATEGORICAL, "country": Kind.CATEGORICAL}
    assert kinds(schema, Source.HISTORY) == {"owned": Kind.MULTI}
    assert draft(log).notes == ("events.parquet, genre: left out: it belongs to the app; give it in the apps file",)


@pytest.mark.parametrize(
    ("column", "why"),
    [
        ({"cost": lambda n: "xy"[n * 7 % 30 % 2]}, "cost: left out: it belongs to the app"),
        ({"note": lambda n: f"free text {n}"}, "note: left out: nearly every value is another"),
        ({"blob": lambda n: {"a": n}}, "blob: left out: most values are bad: Struct"),
        ({"Name": lambda n: "xyz"[n // 7 % 3]}, "Name: left out: a field cannot be called that"),
        ({"position": lambda n: n // 3 % 4}, "position: left out: the name has a meaning of its own"),
        ({"empty": lambda n: None}, "empty: left out: it has no values"),
    ],
    ids=lambda part: next(iter(part)) if isinstance(part, dict) else "",
)
def test_what_is_left_out_is_said_with_the_reason(column: dict[str, Any], why: str) -> None:
    log = raw_log(store(**column))
    assert any(why in note for note in draft(log).notes)
    imports(log)


def test_a_log_of_events_takes_installs_as_positive_and_draws_negatives() -> None:
    given = [{"uid": n % 9, "item": n * 5 % 97, "event": ["view", "uninstall", "install"][n % 3]} for n in range(COUNT)]
    schema = imports(raw_log(given))
    assert schema.log == LogSpec(user="uid", app="item", label="event", positive=("install",), negatives=Negatives())


def test_drawing_negatives_beside_other_events_is_said() -> None:
    given = [{"uid": n % 9, "item": n * 5 % 97, "event": ["view", "install"][n % 2]} for n in range(COUNT)]
    assert any("4 negatives are drawn" in note and "`negatives: null`" in note for note in draft(raw_log(given)).notes)


def test_what_was_shown_and_skipped_is_the_logs_own_negative() -> None:
    given = [{"uid": n % 9, "item": n * 5 % 97, "event": ["skip", "install"][n % 2]} for n in range(COUNT)]
    assert imports(raw_log(given)).log.negatives is None


def test_a_column_that_may_say_what_happened_is_no_field_and_is_asked_about() -> None:
    given = [{"uid": n % 9, "item": n * 5 % 97, "event": ["seen", "bought"][n % 7 % 2]} for n in range(COUNT)]
    log = raw_log(given)
    assert "event" not in {field.name for field in imports(log).fields}
    left_out, positive, _ = draft(log).notes
    assert "event: left out: none of its values (bought, seen) is known to be positive" in left_out
    assert "`log: {label: event, positive: [VALUE]}`" in left_out
    assert "every row counts as positive" in positive


@pytest.mark.parametrize("label", [{}, {"label": 1}], ids=["no label", "all positive"])
def test_a_log_of_positives_alone_draws_negatives(label: dict[str, int]) -> None:
    given = [{"user_id": n % 9, "app_id": n * 5 % 97} | label for n in range(COUNT)]
    assert imports(raw_log(given)).log.negatives == Negatives()


@pytest.mark.parametrize(
    ("names", "taken"),
    [(("train", "valid"), True), (("train", "stop", "gate"), True), (("train", "stop"), False), (("a", "b"), False)],
)
def test_a_split_column_is_used_where_it_can_be(names: tuple[str, ...], taken: bool) -> None:
    given = [row(number, split=names[number // 3 % len(names)]) for number in range(120)]
    log = raw_log(given)
    assert draft(log).schema.log.split == ("split" if taken else None)
    prepare(log, draft(log).schema)


def test_a_csv_folder_is_drafted_from_its_texts(tmp_path: Path) -> None:
    frame = pl.DataFrame(
        store(
            battery=lambda n: n / COUNT, level=lambda n: n // 2 % 4, rate=lambda n: n // 2 % 4 / 2, tags=lambda n: "x|y"
        )
    )
    frame.write_csv(tmp_path / "events.csv")
    pl.DataFrame({"user": range(20), "installed": ["com.a1|com.a2"] * 20}).write_csv(tmp_path / "users.csv")
    schema = imports(read_log(tmp_path, Format.CSV))
    assert kinds(schema, Source.CONTEXT) == {
        "battery": Kind.CONTINUOUS,
        "level": Kind.CATEGORICAL,
        "rate": Kind.CONTINUOUS,
        "tags": Kind.MULTI,
    }


def test_what_all_users_do_with_an_app_is_counted_by_the_first_categories_of_the_context() -> None:
    names = [f"c{number}" for number in range(7)] + ["users_by_c1"]
    schema = imports(raw_log(store(**{name: lambda n: f"v{n // 7 % 3}" for name in names})))
    measures = [field.measure for field in schema.fields if field.measure]
    assert measures == ["uses", "others", "similar", *(f"in_context.c{number}" for number in (0, 2, 3, 4))]


@pytest.mark.parametrize(("lacking", "what"), [("user_id", "user"), ("app_id", "app")])
def test_a_log_without_a_known_user_or_app_column_is_refused_with_the_next_step(lacking: str, what: str) -> None:
    given = [{("x" if name == lacking else name): value for name, value in item.items()} for item in rows()]
    with pytest.raises(ImportRefused, match=rf"known to hold the {what}'s id, .* as `log: \{{{what}: COLUMN\}}`"):
        draft(raw_log(given))


def test_a_time_column_is_taken_though_some_of_its_values_are_bad() -> None:
    given = [row(number, time="never" if number % 4 == 0 else 1_700_000_000 + number) for number in range(40)]
    assert draft(raw_log([item | {"time": str(item["time"])} for item in given])).schema.log.at == "time"


def test_a_label_of_unknown_values_is_refused() -> None:
    with pytest.raises(ImportRefused, match=r"which values of column 'label' in events.parquet are positive"):
        draft(raw_log([item | {"label": "perhaps"} for item in rows()]))


def test_of_a_log_without_times_nothing_is_counted_that_would_tell_each_rows_own_label() -> None:
    untimed = [{name: value for name, value in row.items() if name != "timestamp"} for row in store()]

    assert not imports(raw_log(untimed)).from_source(Source.PAIR)
    assert "without times each count would tell its row's label" in draft(raw_log(untimed)).notes[-1]
    assert imports(raw_log(store())).from_source(Source.PAIR)
