import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from model.shuffle import BLOCKS, Shuffle


@pytest.mark.parametrize(("count", "sizes"), [(9, [4, 5]), (8, [4, 4]), (10, [4, 4, 2]), (1, [1])])
def test_every_row_is_in_one_batch_and_no_batch_is_left_with_one_row(count: int, sizes: list[int]) -> None:
    batches = list(Shuffle(count, 4, 0, 100).batches(1))

    assert [len(batch) for batch in batches] == sizes
    assert sorted(torch.cat(batches).tolist()) == list(range(count))


@given(st.integers(1, 400), st.integers(1, 50), st.integers(1, 200), st.integers(-5, 5))
def test_with_any_window_every_row_comes_once_in_as_many_steps_as_were_told(
    rows: int, size: int, window: int, seed: int
) -> None:
    shuffle = Shuffle(rows, size, seed, window)
    batches = list(shuffle.batches(3))

    assert sorted(torch.cat(batches).tolist()) == list(range(rows))
    assert len(batches) == shuffle.steps
    assert all(len(batch) == size for batch in batches[:-1][:-1])


@pytest.mark.parametrize("window", [100, 5000])
def test_an_epoch_can_be_drawn_again_and_no_two_are_alike(window: int) -> None:
    def order(seed: int, epoch: int) -> list[int]:
        return torch.cat([*Shuffle(1000, 32, seed, window).batches(epoch)]).tolist()

    assert order(1, 1) == order(1, 1)
    assert len({tuple(order(seed, epoch)) for seed in (1, 2) for epoch in (1, 2)}) == 4


def test_a_window_reads_some_blocks_of_the_log_and_mixes_their_rows() -> None:
    window = 4 * BLOCKS
    rows = torch.cat([*Shuffle(40 * window, 16, 0, window).batches(1)])[:window]

    blocks = set((rows // (window // BLOCKS)).tolist())

    assert len(blocks) == BLOCKS
    assert int(rows.max()) - int(rows.min()) > 20 * window  # they lie all over it
    assert len({tuple(sorted(one)) for one in rows.view(-1, 16).tolist()}) == window // 16
    assert (rows[1:] - rows[:-1]).eq(1).float().mean() < 0.1


def test_drawing_an_epoch_leaves_torchs_own_generator_alone() -> None:
    before = torch.get_rng_state()
    list(Shuffle(50, 4, 0, 10).batches(1))

    assert torch.equal(torch.get_rng_state(), before)
