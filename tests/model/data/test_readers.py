import gzip
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from model.data.readers import MAX_COLUMNS, Format, read_log, read_table
from model.data.report import ImportRefused
from tests.model.data.logs import write_jsonl


def csv_file(folder: Path, content: bytes) -> Path:
    path = folder / "events.csv"
    path.write_bytes(content)
    return path


def test_csv_cells_are_text_and_empty_ones_null(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, b'a,b\n01,\n"x,y",""\n'), Format.CSV)
    assert table.textual
    assert table.frame.to_dicts() == [{"a": "01", "b": None}, {"a": "x,y", "b": None}]


def test_blank_lines_of_a_csv_are_no_rows_and_numbers_stay_true(tmp_path: Path) -> None:
    table = read_table(csv_file(tmp_path, b"\xef\xbb\xbfa,b\r\n1,2\r\n\r\n3,4\r\n"), Format.CSV)
    assert table.frame.rows() == [("1", "2"), ("3", "4")]
    assert table.rows.to_list() == [1, 3]


@pytest.mark.parametrize(
    ("line", "why"), [(b"1,2,3", "more cells than the header's 2"), (b"\xff,2", "not UTF-8")], ids=["long", "bytes"]
)
def test_a_broken_csv_row_is_a_fault_and_the_others_are_kept(tmp_path: Path, line: bytes, why: str) -> None:
    table = read_table(csv_file(tmp_path, b"a,b\n1,2\n" + line + b"\n3\n5,6\n"), Format.CSV)
    assert table.frame.rows() == [("1", "2"), ("3", None), ("5", "6")]
    assert table.rows.to_list() == [1, 3, 4]
    assert [(fault.row, fault.why) for fault in table.malformed] == [(2, why)]


def test_a_column_named_twice_in_a_broken_csv_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="names a column twice in its header: a, a"):
        read_table(csv_file(tmp_path, b"a,a\n1,2,3\n"), Format.CSV)


def test_a_quote_left_open_over_more_than_a_cell_holds_is_refused_with_its_row(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="row 2: field larger than field limit"):
        read_table(csv_file(tmp_path, b'a,b\n1,2\n"' + b"3,4\n" * 50_000), Format.CSV)


def test_json_tells_an_absent_key_from_null(tmp_path: Path) -> None:
    table = read_table(write_jsonl(tmp_path / "e.jsonl", [{"a": 1}, {"a": None}, {"b": "x"}]), Format.JSONL)
    assert table.frame["a"].to_list() == [1, None, None]
    assert table.absent["a"].to_list() == [False, False, True]
    assert table.absent["b"].to_list() == [True, True, False]


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"a": 1', "Input data was truncated"),
        (b'{"a": NaN}', "JSON is malformed: invalid character"),
        (b"[1]", "Expected `object`, got `array`"),
        (b'{"a": "\xff"}', "not UTF-8"),
        (b'{"a": ' + b"[" * 100_000, "maximum recursion depth exceeded while deserializing an object"),
    ],
    ids=["cut", "nan", "array", "bytes", "deep"],
)
def test_a_malformed_line_is_a_fault_with_its_row_number(tmp_path: Path, line: bytes, why: str) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"a": 1}\n\n' + line + b'\n{"a": 2}\n')
    table = read_table(path, Format.JSONL)
    assert table.rows.to_list() == [1, 4]
    assert [(fault.file, fault.row, fault.why) for fault in table.malformed] == [("events.jsonl", 3, why)]
    assert len(table.malformed[0].value) <= 60


def test_json_values_of_mixed_types_are_kept_as_they_are(tmp_path: Path) -> None:
    given = [1, "x", 2.5, [1], {"b": 1}, 10**40]
    table = read_table(write_jsonl(tmp_path / "e.jsonl", [{"a": value} for value in given]), Format.JSONL)
    assert table.frame["a"].to_list() == given


@pytest.mark.parametrize("given", [[0.5, True], [1, True], [1, 0.5], ["1", 1], [None, True, 1]], ids=str)
def test_json_types_are_never_turned_into_each_other(tmp_path: Path, given: list[object]) -> None:
    table = read_table(write_jsonl(tmp_path / "e.jsonl", [{"a": value} for value in given]), Format.JSONL)
    assert [type(value) for value in table.frame["a"]] == [type(value) for value in given]


def test_json_of_very_many_keys_is_refused(tmp_path: Path) -> None:
    path = write_jsonl(tmp_path / "e.jsonl", [{f"k{number}": 1} for number in range(MAX_COLUMNS + 1)])
    with pytest.raises(ImportRefused, match="has 2001 different keys; at most 2000"):
        read_table(path, Format.JSONL)


@pytest.mark.parametrize("file_format", Format)
def test_a_gzipped_file_reads_as_the_plain_one(tmp_path: Path, file_format: Format) -> None:
    frame = pl.DataFrame({"a": ["x", "y"]})
    plain = tmp_path / f"events.{file_format}"
    write: dict[str, Any] = {"parquet": frame.write_parquet, "csv": frame.write_csv, "jsonl": frame.write_ndjson}
    write[file_format](plain)
    zipped = tmp_path / f"zipped.{file_format}.gz"
    zipped.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_table(zipped, file_format).frame.equals(read_table(plain, file_format).frame)


@pytest.mark.parametrize("file_format", Format)
@pytest.mark.parametrize(
    ("content", "ending", "message"),
    [
        (b"", "", "is empty"),
        (b" \n", "", "is empty"),
        (b"not gzip", ".gz", "is not a whole gzip file"),
        (gzip.compress(b"a,b\n" * 100)[:-9], ".gz", "is not a whole gzip file"),
        (None, "", "cannot be read: No such file or directory"),
    ],
    ids=["empty", "blank", "not gzip", "cut gzip", "missing"],
)
def test_a_file_that_cannot_be_read_is_refused(
    tmp_path: Path, file_format: Format, content: bytes | None, ending: str, message: str
) -> None:
    path = tmp_path / f"events.{file_format}{ending}"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ImportRefused, match=message):
        read_table(path, file_format)


def test_a_file_that_is_no_parquet_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ImportRefused, match="is not a Parquet file that can be read"):
        read_table(csv_file(tmp_path, b"a,b\n1,2\n"), Format.PARQUET)


def test_a_folder_is_read_with_its_apps_users_and_schema(tmp_path: Path) -> None:
    csv_file(tmp_path, b"user_id,app_id,label\nu,a,1\n")
    write_jsonl(tmp_path / "apps.jsonl", [{"app_id": "a"}])
    (tmp_path / "schema.yaml").write_text("fields: [{name: app_id, source: app, kind: categorical}]")
    log = read_log(tmp_path, Format.CSV)
    assert log.source == f"csv: {tmp_path}"
    assert log.events.file == "events.csv"
    assert log.apps is not None
    assert log.apps.file == "apps.jsonl"
    assert log.users is None
    assert log.schema is not None
    assert log.schema.fields[0].name == "app_id"


def test_a_folder_of_another_format_is_refused_naming_what_it_holds_and_its_format(
    tmp_path: Path,
) -> None:
    csv_file(tmp_path, b"a\n1\n")
    with pytest.raises(ImportRefused, match=r"no events.parquet or .*; it holds events.csv; import it as csv$"):
        read_log(tmp_path, Format.PARQUET)


def test_a_folder_without_any_events_is_refused_naming_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("", encoding="utf-8")
    with pytest.raises(ImportRefused, match=r"no events.csv or events.csv.gz; it holds notes.txt$"):
        read_log(tmp_path, Format.CSV)


@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_a_csv_without_commas_is_refused_by_its_separator(tmp_path: Path, separator: str) -> None:
    file = tmp_path / "log.csv"
    file.write_text(separator.join(("user_id", "app_id")) + "\n" + separator.join(("u", "a")) + "\n")
    with pytest.raises(ImportRefused, match=r"one column.*write it with commas"):
        read_table(file, Format.CSV)
