"""The log as Parquet files: all of it comes back, and nothing damaged gets in."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import polars as pl
import pytest

from model.query import Value
from service.home import Home
from service.log_files import MANIFEST, LogFilesRefused, Span, export_log, import_log
from service.log_rows import impressions_frame, impressions_of
from service.store.log_ports import EventLog, Feedback, Impression, LogCounts, Shown
from service.store.sqlite_backend import open_sqlite

EVER = (0.0, 1e12)
START = 1_700_000_000.0
COUNT = 25


def new_log(folder: Path) -> EventLog:
    folder.mkdir()
    return open_sqlite(Home(folder), lambda: START).log


def impression(number: int) -> Impression:
    measures = {"in_context.daytime": 3.0, "similar": 0.1 + 0.2} if number % 2 else {}
    values: dict[str, Value] = {"tags": ["a", "é"], "price": 0.0, "plan": None}
    items = tuple(
        Shown(f"com.{place}", place, 1 / (place + number + 1), values, place, measures) for place in range(1, 4)
    )
    return Impression(
        request_id=f"r{number:04}",
        at=round(START + number / 3, 6),
        version="20261101T000000Z-00000a",
        user_id=f"u{number % 4}",
        user={"age": 31, "score": 0.1 + 0.2, "pro": True} if number % 2 else {},
        context={"daytime": "morning"},
        history={"com.z": 9, "com.a": 9} if number % 3 else {},
        items=items,
    )


def event(number: int) -> Feedback:
    at = round(START + number / 7, 6)
    anonymous, alone = number % 5 == 0, number % 5 == 1
    user_id, request_id = None if anonymous else "u1", None if alone else f"r{number:04}"
    return Feedback(f"e{number:04}", "install", at, at + 1, "com.1", user_id, request_id, dated=number % 2 == 0)


@pytest.fixture
def log(tmp_path: Path) -> EventLog:
    log = new_log(tmp_path / "home")
    log.show(impression(number) for number in range(COUNT))
    log.take([event(number) for number in range(COUNT)])
    return log


@pytest.fixture
def folder(tmp_path: Path, log: EventLog, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An export in several files."""
    monkeypatch.setattr("service.log_files.ROWS_A_FILE", 10)
    assert export_log(log, tmp_path / "export", span=Span()) == LogCounts(COUNT, COUNT)
    return tmp_path / "export"


def rows(log: EventLog) -> tuple[list[Impression], list[Feedback]]:
    return list(log.impressions(*EVER)), list(log.feedback(*EVER))


def test_an_export_is_parquet_in_parts_that_anything_can_read(folder: Path) -> None:
    names = sorted(file.name for file in folder.iterdir())
    parts = [f"{kind}-0000{number}.parquet" for kind in ("feedback", "impressions") for number in range(3)]
    assert names == [*parts, MANIFEST]
    shown = pl.read_parquet(folder / "impressions-*.parquet")
    assert shown["at"].dtype == pl.Datetime("us", "UTC")
    assert shown.explode("items")["items"].struct.field("app_id").to_list()[:3] == ["com.1", "com.2", "com.3"]


def test_what_was_exported_comes_back_as_it_was(folder: Path, log: EventLog, tmp_path: Path) -> None:
    other = new_log(tmp_path / "other")
    found = import_log(other, folder)
    assert (found.read, found.new, found.refused) == (LogCounts(COUNT, COUNT), LogCounts(COUNT, COUNT), 0)
    assert rows(other) == rows(log)
    assert [list(one.history) for one in other.impressions(*EVER)] == [
        list(one.history) for one in log.impressions(*EVER)
    ]


def test_importing_again_changes_nothing(folder: Path, log: EventLog) -> None:
    before = rows(log)
    found = import_log(log, folder)
    assert (found.new, found.refused) == (LogCounts(0, 0), 0)
    assert rows(log) == before


def test_an_event_whose_id_is_anothers_here_is_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    other = new_log(tmp_path / "other")
    mine = Feedback("e0003", "click", START, START, "com.mine", "me", None, dated=True)
    other.take([mine])
    found = import_log(other, folder)
    assert (found.new.feedback, found.refused) == (COUNT - 1, 1)
    assert mine in rows(other)[1]


def test_only_the_times_asked_for_are_exported(log: EventLog, tmp_path: Path) -> None:
    counts = export_log(log, tmp_path / "some", span=Span(since=START + 1, until=START + 2))
    assert counts == LogCounts(impressions=3, feedback=7)


def test_rows_of_a_release_without_measures_are_read_as_having_none() -> None:
    shown = [impression(number) for number in range(0, 6, 2)]
    fields = pl.element().struct.field("app_id", "position", "score", "features", "others")
    before = impressions_frame(shown).with_columns(pl.col("items").list.eval(pl.struct(fields)))
    assert impressions_of(before) == shown


def test_an_empty_log_is_an_export_too(tmp_path: Path) -> None:
    log = new_log(tmp_path / "home")
    assert export_log(log, tmp_path / "export", span=Span()) == LogCounts(0, 0)
    assert import_log(log, tmp_path / "export").read == LogCounts(0, 0)


def test_an_export_does_not_mix_with_what_is_in_its_folder(log: EventLog, folder: Path) -> None:
    with pytest.raises(LogFilesRefused, match="not empty"):
        export_log(log, folder, span=Span())


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def gone(file: Path) -> None:
    file.unlink()


@pytest.mark.parametrize(
    ("damage", "told"), [(flip, "has changed since"), (cut, "bytes where"), (gone, "cannot be read")]
)
@pytest.mark.parametrize("name", ["impressions-00001.parquet", "feedback-00002.parquet"])
def test_a_damaged_file_is_refused_by_name_before_anything_is_kept(
    folder: Path, tmp_path: Path, name: str, damage: Callable[[Path], None], told: str
) -> None:
    damage(folder / name)
    other = new_log(tmp_path / "other")
    with pytest.raises(LogFilesRefused, match=rf"{name} .*{told}"):
        import_log(other, folder)
    assert other.counts() == LogCounts(0, 0)


@pytest.mark.parametrize(
    ("manifest", "told"),
    [
        (None, "holds no whole export"),
        ("{", "cannot be read"),
        ('{"format": 1}', "cannot be read"),
        ('{"format": 2, "files": {}}', "format 2 where 1 is known"),
        ('{"format": 1, "files": {"../feedback-1": {"rows": 1, "size": 1, "sha256": ""}}}', "no file of an export"),
        (
            '{"format": 1, "files": {"impressions/../feedback-00000.parquet": {"rows": 1, "size": 1, "sha256": ""}}}',
            "no file of an export",
        ),
    ],
)
def test_a_manifest_that_is_none_is_refused(folder: Path, log: EventLog, manifest: str | None, told: str) -> None:
    (folder / MANIFEST).unlink()
    if manifest is not None:
        (folder / MANIFEST).write_text(manifest)
    with pytest.raises(LogFilesRefused, match=told):
        import_log(log, folder)


def test_a_sound_file_of_other_columns_is_refused(folder: Path, log: EventLog) -> None:
    name = "feedback-00000.parquet"
    content = (folder / name).read_bytes()
    pl.read_parquet(folder / name).rename({"kind": "sort"}).write_parquet(folder / name)
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(resealed(manifest, content, (folder / name).read_bytes()))
    with pytest.raises(LogFilesRefused, match=r"does not hold the rows of an export \(its columns are id, sort"):
        import_log(log, folder)


@pytest.mark.parametrize(
    ("name", "lost"),
    [
        ("feedback-00002.parquet", pl.lit(None, pl.String).alias("id")),
        ("feedback-00002.parquet", pl.lit(None, pl.String).alias("kind")),
        ("feedback-00002.parquet", pl.lit(None, pl.Boolean).alias("dated")),
        ("impressions-00000.parquet", pl.lit(None, pl.String).alias("user_id")),
        ("impressions-00000.parquet", pl.lit("[]").alias("context")),
        (
            "impressions-00000.parquet",
            pl.col("items").list.eval(pl.element().struct.with_fields(score=pl.lit(float("nan")))),
        ),
    ],
)
def test_a_sound_file_with_rows_that_no_log_could_hold_is_refused(
    folder: Path, tmp_path: Path, name: str, lost: pl.Expr
) -> None:
    content = (folder / name).read_bytes()
    pl.read_parquet(folder / name).with_columns(lost).write_parquet(folder / name)
    manifest = (folder / MANIFEST).read_text()
    (folder / MANIFEST).write_text(resealed(manifest, content, (folder / name).read_bytes()))
    other = new_log(tmp_path / "other")
    with pytest.raises(LogFilesRefused, match=f"{name} does not hold the rows of an export"):
        import_log(other, folder)
    rows(other)


def resealed(manifest: str, was: bytes, now: bytes) -> str:
    return manifest.replace(sha256(was).hexdigest(), sha256(now).hexdigest()).replace(
        f'"size": {len(was)},', f'"size": {len(now)},'
    )
