import json
from collections.abc import Mapping
from typing import Any

import pytest

from model.data.synthetic import SyntheticConfig, dataset
from model.sharded.shards import write_shards
from tests.service.distributed.cases import CASES, Case
from tests.service.distributed.torchrun import finished, require_extra, torchrun

pytestmark = pytest.mark.e2e
ROUNDING = 2e-5

Found = Mapping[str, Mapping[str, Any]]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[Found]:
    """What each of two ranks found, of every case."""
    require_extra()
    folder = tmp_path_factory.mktemp("oracle")
    data, _ = dataset(SyntheticConfig(users=60, apps=40, days=10, impressions=3_000, head=8))
    shards = write_shards(data, folder / "shards", count=3)
    ran = finished(torchrun(2, "tests.service.distributed.oracle", str(shards.folder), str(folder)))
    assert ran.returncode == 0, ran.stderr
    return [json.loads((folder / f"{rank}.json").read_text(encoding="utf-8")) for rank in range(2)]


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_two_ranks_learn_what_one_process_learns_from_their_rows_together(case: Case, found: list[Found]) -> None:
    for of_rank in found:
        assert of_rank[case.name]["weights"] < ROUNDING
        assert of_rank[case.name]["state"] < ROUNDING
        assert of_rank[case.name]["scores"] < ROUNDING


def test_by_row_every_rank_holds_half_of_each_table_and_by_table_one_holds_all_of_it(found: list[Found]) -> None:
    rows, tables = (
        [of_rank[name]["held"] for of_rank in found] for name in ("wide_deep-paper-row-4", "wide_deep-paper-table-4")
    )

    assert all(abs(one - other) <= 1 for one, other in zip(*rows, strict=True))
    assert all(min(pair) == 0 for pair in zip(*tables, strict=True))
    assert [sum(pair) for pair in zip(*rows, strict=True)] == [sum(pair) for pair in zip(*tables, strict=True)]
