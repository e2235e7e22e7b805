"""Random encoded sides and pairs of known sizes, to run nets on without any data."""

import torch
from torch import Tensor

from model.batch import Bag, Batch, FieldSize, Pair, Side, SideSizes, Sizes

SIZES = Sizes(
    request=SideSizes((FieldSize("user_id", 7), FieldSize("daytime", 5, 3)), (FieldSize("installed", 6),), 2),
    app=SideSizes((FieldSize("app_id", 6), FieldSize("category", 4)), (FieldSize("tags", 4),), 1),
    pair_dense=1,
    crosses=32,
)


def random_bag(count: int, size: int, draw: torch.Generator, *, longest: int = 4) -> Bag:
    """`count` bags of up to `longest` ids below `size`; some are empty."""
    lengths = torch.randint(0, longest + 1, (count,), generator=draw)
    return Bag(torch.randint(0, size, (int(lengths.sum()),), generator=draw), lengths.cumsum(0) - lengths)


def random_side(sizes: SideSizes, count: int, draw: torch.Generator) -> Side:
    """`count` rows of one side."""
    ids = [torch.randint(0, field.size, (count,), generator=draw) for field in sizes.ids]
    bags = tuple(random_bag(count, field.size, draw) for field in sizes.bags)
    crosses = (random_bag(count, SIZES.crosses, draw),)
    return Side(torch.stack(ids, 1), torch.rand(count, sizes.dense, generator=draw), bags, crosses)


def random_batch(count: int, seed: int = 0) -> Batch:
    """`count` rows with random labels."""
    draw = torch.Generator().manual_seed(seed)
    pair = Pair(torch.rand(count, 1, generator=draw), (random_bag(count, SIZES.crosses, draw),))
    label = torch.randint(0, 2, (count,), generator=draw).float()
    request, app = random_side(SIZES.request, count, draw), random_side(SIZES.app, count, draw)
    return Batch(request, app, pair, label, torch.ones(count))


def ids_of(bag: Bag, row: int) -> list[int]:
    """The ids of one bag."""
    first = int(bag.offsets[row])
    return bag.values[first : first + int(bag.lengths[row])].tolist()


def scrambled(net: torch.nn.Module, seed: int = 0) -> None:
    """Give every parameter and running statistic of a net a random value, so that none is zero by its start."""
    draw = torch.Generator().manual_seed(seed)
    for tensor in (*net.parameters(), *(b for name, b in net.named_buffers() if "running" in name)):
        with torch.no_grad():
            tensor.copy_(_random_like(tensor, draw))


def _random_like(tensor: Tensor, draw: torch.Generator) -> Tensor:
    return torch.rand(tensor.shape, generator=draw) * 0.4 + 0.1
