import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from model.halves import join, split

EDGES = [0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.17e-38, 3.4028235e38, -3.4028235e38, float("inf"), float("-inf")]


def bits_of(x: Tensor) -> list[int]:
    return x.view(torch.int32).tolist()


@given(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=1))
def test_both_halves_together_are_the_number_bit_for_bit_whatever_its_bits(bits: list[int]) -> None:
    numbers = torch.tensor(bits, dtype=torch.int32).view(torch.float32)

    assert bits_of(join(*split(numbers))) == bits


@pytest.mark.parametrize("lower", [0, 1, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
def test_every_upper_half_is_put_together_again(lower: int) -> None:
    bits = ((np.arange(1 << 16, dtype=np.uint32) << 16) + np.uint32(lower)).view(np.int32)

    np.testing.assert_array_equal(bits_of(join(*split(torch.from_numpy(bits).view(torch.float32)))), bits)


def test_zeros_denormals_huge_numbers_and_infinities_keep_their_bits() -> None:
    numbers = torch.tensor(EDGES)

    assert bits_of(join(*split(numbers))) == bits_of(numbers)


@given(st.lists(st.floats(-(2.0**100), 2.0**100, width=32), min_size=1))
def test_the_upper_half_is_as_near_as_a_bfloat16_can_be(numbers: list[float]) -> None:
    exact = torch.tensor(numbers)

    upper, _ = split(exact)

    nearest = exact.to(torch.bfloat16)
    assert torch.equal((upper.double() - exact).abs(), (nearest.double() - exact).abs())


def test_halves_keep_the_shape_and_take_no_more_room_than_the_numbers() -> None:
    numbers = torch.randn(3, 8)[:, ::2]

    upper, lower = split(numbers)

    assert (upper.dtype, lower.dtype, upper.shape, lower.shape) == (torch.bfloat16, torch.int16, (3, 4), (3, 4))
    assert torch.equal(join(upper, lower), numbers)
