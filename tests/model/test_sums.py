from typing import Any

import torch
from hypothesis import given
from hypothesis import strategies as st

from model.sums import ROWS_A_STEP, ROWS_AT_ONCE, Added, Sums, blocks, stepped

COUNTS = st.lists(st.integers(0, 3 * ROWS_AT_ONCE), max_size=6)


@given(COUNTS)
def test_blocks_hold_every_row_once_in_order_and_are_never_too_long(counts: list[int]) -> None:
    spans = [block for block in blocks(counts)]

    rows = [(place, row) for block in spans for place, first, last in block for row in range(first, last)]
    assert rows == list(enumerate_rows(counts))
    assert all(0 < block[-1][2] - block[0][1] <= ROWS_AT_ONCE for block in spans)


def enumerate_rows(counts: list[int]) -> list[tuple[int, int]]:
    owners = [place for place, count in enumerate(counts) for _ in range(count)]
    return [(owner, row) for row, owner in enumerate(owners)]


@given(COUNTS, st.booleans())
def test_the_blocks_of_sums_are_the_sums(counts: list[int], more: bool) -> None:
    table, mine = torch.randn(50, 3), torch.randn(len(counts), 3)
    rows, other = torch.randint(0, 50, (sum(counts),)), torch.randn(sum(counts), 3)

    sums = Added() + Sums(lambda some: table.index_select(0, some), rows, mine=mine, counts=counts)
    found = torch.cat([torch.empty(0, 3), *(block[:count] for block, count in (other + sums if more else sums))])

    expected = table[rows] + mine.repeat_interleave(torch.tensor(counts, dtype=torch.int64), 0)
    torch.testing.assert_close(found, expected + other if more else expected)


@given(COUNTS)
def test_a_blocks_rows_are_a_multiple_of_the_step_so_that_few_kernels_are_made(counts: list[int]) -> None:
    sums = Sums(lambda some: torch.zeros(len(some), 2), torch.zeros(sum(counts), dtype=torch.int64), **nothing(counts))
    assert all(len(block) % ROWS_A_STEP == 0 and 0 < count <= len(block) for block, count in sums + Added())


def nothing(counts: list[int]) -> dict[str, Any]:
    return {"mine": torch.zeros(len(counts), 2), "counts": counts}


def test_what_is_missing_from_a_step_is_the_last_row_again() -> None:
    assert stepped(torch.arange(9)).tolist() == [*range(9), *[8] * 7]
    assert len(stepped(torch.empty(0, 3))) == 0
