import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from model.data.dataset import Dataset
from model.data.synthetic import SyntheticConfig, dataset
from model.sharded.shards import write_shards
from tests.model.test_training import learnable
from tests.service.distributed.cases import CASES, Case
from tests.service.distributed.torchrun import finished, require_extra, torchrun

pytestmark = pytest.mark.e2e
ROUNDING = 2e-5

Found = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each of two ranks found, of every case."""
    data, _ = dataset(SyntheticConfig(users=60, apps=40, days=10, impressions=3_000, head=8))
    return found_by(2, data, tmp_path_factory.mktemp("oracle"))


def found_by(ranks: int, data: Dataset, folder: Path, *architecture: str) -> list[Found]:
    """What each rank found."""
    require_extra()
    shards = write_shards(data, folder / "shards", count=3)
    ran = finished(torchrun(ranks, "tests.service.distributed.oracle", str(shards.folder), str(folder), *architecture))
    assert ran.returncode == 0, ran.stderr
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(ranks)]


def plain() -> Dataset:
    """Three fields of a few ids each, and nothing beside them."""
    data = learnable(600)
    fields = tuple(field for field in data.schema.fields if field.name in ("user_id", "daytime", "app_id"))
    schema = data.schema.model_copy(update={"fields": fields, "crosses": ()})
    return replace(data, schema=schema, examples=data.examples)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_two_ranks_learn_what_one_process_learns_from_their_rows_together(case: Case, found: list[Found]) -> None:
    for of_rank in found:
        assert of_rank[case.name]["weights"] < ROUNDING
        assert of_rank[case.name]["state"] < ROUNDING
        assert of_rank[case.name]["scores"] < ROUNDING


def test_more_ranks_than_tables_of_so_few_rows_that_a_batch_asks_some_ranks_for_none_learn_the_same(
    tmp_path: Path,
) -> None:
    for of_rank in found_by(3, plain(), tmp_path, "lr"):
        for name in ("lr-paper-row-4", "lr-paper-table-4"):
            assert of_rank[name]["weights"] < ROUNDING
            assert of_rank[name]["state"] < ROUNDING
            assert of_rank[name]["scores"] < ROUNDING


def test_a_rank_without_rows_in_a_step_leaves_what_batch_norm_keeps_as_it_is(found: list[Found]) -> None:
    for of_rank in found:
        with_rows, without = of_rank["idle"]["moved"]
        assert with_rows > without == 0


def test_by_row_every_rank_holds_half_of_each_table_and_by_table_one_holds_all_of_it(found: list[Found]) -> None:
    rows, tables = (
        [of_rank[name]["held"] for of_rank in found] for name in ("wide_deep-paper-row-4", "wide_deep-paper-table-4")
    )

    assert all(abs(one - other) <= 1 for one, other in zip(*rows, strict=True))
    assert all(min(pair) == 0 for pair in zip(*tables, strict=True))
    assert [sum(pair) for pair in zip(*rows, strict=True)] == [sum(pair) for pair in zip(*tables, strict=True)]
