"""`appshelf shard`, which needs nothing of the extra."""

import json
from pathlib import Path

import pytest

from model.sharded.shards import Shards
from tests.service.command_line import refusal, run_on
from tests.service.store_front import dataset


def test_it_cuts_the_imported_data_and_says_into_what(home: Path) -> None:
    told = json.loads(run_on(home)("shard", "--count", "3", "--json").stdout)

    shards = Shards.open(home / "shards")
    data = dataset()
    rows = {split: data.count(split) for split in ("train", "stop")}
    assert told == {"folder": str(home / "shards"), "count": 3, "rows": rows}
    assert {split: sum(counts) for split, counts in shards.contents.rows.items()} == told["rows"]


def test_more_shards_than_rows_are_refused_and_the_former_ones_stay(home: Path) -> None:
    run, rows = run_on(home), dataset().count("stop")
    run("shard", "--count", "2")

    refused = run("shard", "--count", str(rows + 1))

    assert f"{rows} rows for {rows + 1} shards; ask for {rows} or fewer" in refusal(refused)
    assert len(Shards.open(home / "shards")) == 2


@pytest.mark.parametrize("words", [("--count", "0"), ("--seed", "-1"), ("--seed", str(2**63))])
def test_numbers_out_of_range_are_wrong_usage(home: Path, words: tuple[str, str]) -> None:
    assert run_on(home)("shard", *words).exit_code == 2


def test_without_data_it_says_what_comes_first(tmp_path: Path) -> None:
    assert "run `appshelf import FORMAT PATH`" in refusal(run_on(tmp_path / "home")("shard"))
