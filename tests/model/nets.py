"""Random encoded sides and pairs of known sizes, to run nets on without any data."""

import torch
from torch import Tensor

from model.batch import Bag, Batch, FieldSize, Pair, Side, SideSizes, Sizes
from model.blocks import NamedSide, NamedSizes

NUMBERS = {"request": ("age", "speed"), "app": ("rating",), "pair": ("uses", "others")}

SIZES = NamedSizes(
    request=NamedSide(
        (FieldSize("user_id", 7), FieldSize("daytime", 5, 3)), (FieldSize("installed", 6),), 2, NUMBERS["request"]
    ),
    app=NamedSide((FieldSize("app_id", 6), FieldSize("category", 4)), (FieldSize("tags", 4),), 1, NUMBERS["app"]),
    pair_dense=2,
    crosses=32,
    pair_numbers=NUMBERS["pair"],
    cross_rows=(("user_id*app_id", 32),),
)


def random_bag(count: int, size: int, draw: torch.Generator, *, longest: int = 4) -> Bag:
    """`count` bags of up to `longest` ids below `size`; some are empty."""
    lengths = torch.randint(0, longest + 1, (count,), generator=draw)
    return Bag(torch.randint(0, size, (int(lengths.sum()),), generator=draw), lengths.cumsum(0) - lengths)


def random_side(sizes: SideSizes, count: int, draw: torch.Generator, *, crosses: int = SIZES.crosses) -> Side:
    """`count` rows of one side. crosses: rows of the cross table."""
    ids = torch.empty((count, len(sizes.ids)), dtype=torch.int64)
    for place, field in enumerate(sizes.ids):
        ids[:, place] = torch.randint(0, field.size, (count,), generator=draw)
    bags = tuple(random_bag(count, field.size, draw) for field in sizes.bags)
    crossed = (random_bag(count, crosses, draw),) if crosses else ()
    return Side(ids, torch.rand(count, sizes.dense, generator=draw), bags, crossed)


def random_batch(count: int, seed: int = 0, *, sizes: Sizes = SIZES) -> Batch:
    """`count` rows with random labels."""
    draw = torch.Generator().manual_seed(seed)
    crossed = (random_bag(count, sizes.crosses, draw),) if sizes.crosses else ()
    pair = Pair(torch.rand(count, sizes.pair_dense, generator=draw), crossed)
    label = torch.randint(0, 2, (count,), generator=draw).float()
    request = random_side(sizes.request, count, draw, crosses=sizes.crosses)
    app = random_side(sizes.app, count, draw, crosses=sizes.crosses)
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
