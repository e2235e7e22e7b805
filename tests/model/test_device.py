import pytest
import torch

from model.batch import Bag, Batch, Pair, Side
from model.device import CPU, chosen, moved
from model.train_config import TrainingFailed
from tests.model.data.test_encoded import HELD


def tensors(batch: Batch) -> list[torch.Tensor]:
    sides: tuple[Side, ...] = (batch.request, batch.app)
    bags: list[Bag] = [bag for side in sides for bag in (*side.bags, *side.crosses, *side.keys)]
    pair: Pair = batch.pair
    own = [tensor for side in sides for tensor in (side.ids, side.dense)]
    assert batch.position is not None
    flat = [tensor for bag in (*bags, *pair.crosses) for tensor in (bag.values, bag.offsets)]
    return [*own, *flat, pair.dense, batch.label, batch.weight, batch.position]


def test_a_batch_stays_where_the_net_is_on_the_processor() -> None:
    batch = HELD.batch(torch.arange(5))

    assert moved(batch, CPU) is batch


def test_all_of_a_batch_is_moved() -> None:
    batch = moved(HELD.batch(torch.arange(5)), torch.device("meta"))  # which stands for a device that is not this one

    assert {tensor.device.type for tensor in tensors(batch)} == {"meta"}
    assert [tensor.shape for tensor in tensors(batch)] == [one.shape for one in tensors(HELD.batch(torch.arange(5)))]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_auto_is_the_processor_and_cuda_is_refused() -> None:
    assert chosen("auto") == chosen("cpu") == CPU
    with pytest.raises(TrainingFailed, match="torch finds no GPU here; ask for cpu or auto"):
        chosen("cuda")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_with_a_gpu_a_batch_goes_there_unchanged() -> None:
    batch = HELD.batch(torch.arange(5))

    there = moved(batch, chosen("auto"))

    assert {tensor.device.type for tensor in tensors(there)} == {"cuda"}
    assert all(torch.equal(one, other.cpu()) for one, other in zip(tensors(batch), tensors(there), strict=True))
