"""The layers the architectures are written with, each cut into a request's, an app's and a pair's part."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import Bag, FieldSize, Pair, Side, SideSizes, Sizes
from model.blocks import Axes, Block, Per, cross_rows, pair_numbers, side_numbers, total, value_rows

Part = dict[str, Tensor]
"""What a side leaves for `combine`: tensors whose first dimension is the side's rows."""

INITIAL_STD = 0.01


def pooled(bag: Bag, table: Tensor, *, mode: str, sparse: bool = True) -> Tensor:
    """(B, K): the rows of `table` (size, K) that each bag names, added up or averaged; an empty bag gives zeros."""
    return F.embedding_bag(bag.values, table, bag.offsets, mode=mode, sparse=sparse)


def small(*shape: int) -> Tensor:
    """Normal numbers of INITIAL_STD; of a net that is only a skeleton none, since to draw those loads half of torch."""
    numbers = torch.empty(shape)
    return numbers if numbers.is_meta else numbers.normal_(std=INITIAL_STD)


def offsets_of(sizes: Sequence[FieldSize]) -> Tensor:
    """(F,) int64: where each field's rows begin when the fields lie in one table."""
    starts = [0, *accumulate(field.size for field in sizes)][: len(sizes)]
    return torch.tensor(starts, dtype=torch.int64, device="cpu")  # also in a net whose parameters are yet to come


class WideSide(nn.Module):
    """A weight per id and per continuous value of one side, added up. forward -> (B,)."""

    def __init__(self, sizes: SideSizes) -> None:
        super().__init__()
        fields = (*sizes.ids, *sizes.bags)
        self.register_buffer("offsets", offsets_of(fields), persistent=False)
        self.table = nn.Parameter(torch.zeros(max(sum(field.size for field in fields), 1), 1))
        self.dense = nn.Parameter(torch.zeros(sizes.dense))
        self.id_count = len(sizes.ids)
        self.rows, self.numbers = value_rows(fields), side_numbers(sizes)

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        return {"table": {0: self.rows}, "dense": {0: self.numbers}}

    def forward(self, side: Side) -> Tensor:
        """(B,)."""
        offsets = self.get_buffer("offsets")
        total: Tensor = side.dense @ self.dense
        if self.id_count:
            weights = F.embedding(side.ids + offsets[: self.id_count], self.table, sparse=True)
            total = total + weights.sum((1, 2))
        for bag, offset in zip(side.bags, offsets[self.id_count :], strict=True):
            total = total + pooled(Bag(bag.values + offset, bag.offsets), self.table, mode="sum")[:, 0]
        return total


class Wide(nn.Module):
    """The generalised linear model over raw values and cross-product features (Cheng et al. 2016, section 3.1)."""

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.request = WideSide(sizes.request)
        self.app = WideSide(sizes.app)
        self.pair_dense = nn.Parameter(torch.zeros(sizes.pair_dense))
        self.crosses = nn.Parameter(torch.zeros(max(sizes.crosses, 1), 1))
        self.bias = nn.Parameter(torch.zeros(1))
        self.rows, self.numbers = cross_rows(sizes), pair_numbers(sizes)

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        return {"crosses": {0: self.rows}, "pair_dense": {0: self.numbers}}

    def request_part(self, side: Side) -> Tensor:
        """(B,): the request's own weights and crosses."""
        own: Tensor = self.request(side)
        return own + self._crossed(side.crosses, len(side))

    def app_part(self, side: Side) -> Tensor:
        """(B,): the app's own weights and crosses."""
        own: Tensor = self.app(side)
        return own + self._crossed(side.crosses, len(side))

    def pair_part(self, pair: Pair) -> Tensor:
        """(N,): the weights of the two-sided crosses, the pair's continuous values, and the bias."""
        return pair.dense @ self.pair_dense + self._crossed(pair.crosses, pair.dense.shape[0]) + self.bias

    def _crossed(self, bags: Sequence[Bag], count: int) -> Tensor:
        total: Tensor = self.crosses.new_zeros(count)
        for bag in bags:
            total = total + pooled(bag, self.crosses, mode="sum")[:, 0]
        return total


class FieldEmbedding(nn.Module):
    """An embedding per id field and a pooled one per multi-valued field, the continuous values beside them.

    Fields of one width share a table, so that a side costs one gather. forward -> (B, width).
    """

    def __init__(self, sizes: SideSizes, dim: int) -> None:
        super().__init__()
        fields = (*sizes.ids, *sizes.bags)
        dims = [field.dim or dim for field in fields]
        self.groups = [[place for place, d in enumerate(dims) if d == width] for width in sorted(set(dims))]
        self.tables = nn.ParameterList()
        for place, group in enumerate(self.groups):
            members = [fields[member] for member in group]
            rows = sum(field.size for field in members)
            self.tables.append(nn.Parameter(small(rows, dims[group[0]])))
            self.register_buffer(f"offsets_{place}", offsets_of(members), persistent=False)
        self.fields = fields
        self.id_count = len(sizes.ids)
        placed = [member for group in self.groups for member in group]
        embedded = (Block(fields[member].name, dims[member], Per.EMBEDDING) for member in placed)
        self.columns = (*side_numbers(sizes), *embedded)

    def axes(self) -> dict[str, Axes]:
        """See `Described`; `columns` are those of the output."""
        return {
            f"tables.{place}": {0: value_rows(self.fields[member] for member in group)}
            for place, group in enumerate(self.groups)
        }

    def forward(self, side: Side) -> Tensor:
        """(B, width)."""
        parts = [side.dense]
        for place, (group, table) in enumerate(zip(self.groups, self.tables, strict=True)):
            parts += self._group(side, group, table, self.get_buffer(f"offsets_{place}"))
        return torch.cat(parts, dim=1)

    @torch.no_grad()
    def settle_unseen(self, counts: Mapping[str, Tensor]) -> None:
        """Give every id that training never saw the mean of its field's rows, weighted by how often each was seen.

        Such an id would otherwise keep its random start: the OOV id itself is one where every value was frequent.
        """
        for place, (group, table) in enumerate(zip(self.groups, self.tables, strict=True)):
            for member, offset in zip(group, self.get_buffer(f"offsets_{place}").tolist(), strict=True):
                seen = counts[self.fields[member].name]
                rows = table[offset : offset + len(seen)]
                rows[seen == 0] = (seen.float() @ rows) / seen.sum().clamp(min=1)

    def _group(self, side: Side, group: list[int], table: Tensor, offsets: Tensor) -> list[Tensor]:
        single = [member for member in group if member < self.id_count]
        parts = []
        if single:
            ids = side.ids if len(single) == self.id_count else side.ids[:, single]
            parts.append(F.embedding(ids + offsets[: len(single)], table, sparse=True).flatten(1))
        for member, offset in zip(group[len(single) :], offsets[len(single) :], strict=True):
            bag = side.bags[member - self.id_count]
            parts.append(pooled(Bag(bag.values + offset, bag.offsets), table, mode="mean"))
        return parts


class SplitLinear(nn.Module):
    """One linear layer over (request, app, pair) values, cut so that each side's product is computed once.

    W x + b = W_r r + W_a a + W_p p + b: the first layer of a tower over the concatenation, exactly. columns: of the
    request, the app and the pair, and whose they are.
    """

    def __init__(self, columns: tuple[Sequence[Block], Sequence[Block], Sequence[Block]], out: int) -> None:
        super().__init__()
        self.columns = columns
        widths = [total(blocks) for blocks in columns]
        bound = max(sum(widths), 1) ** -0.5
        self.request, self.app, self.pair = (nn.Parameter(torch.empty(out, w).uniform_(-bound, bound)) for w in widths)
        self.bias = nn.Parameter(torch.empty(out).uniform_(-bound, bound))

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        return {name: {1: tuple(blocks)} for name, blocks in zip(("request", "app", "pair"), self.columns, strict=True)}


class MLP(nn.Module):
    """ReLU layers down to one logit over the sum that a split first layer left. forward: (N, H) -> (N,)."""

    def __init__(self, hidden: Sequence[int], *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for width, following in zip(hidden, [*hidden[1:], 1], strict=True):
            layers += [nn.BatchNorm1d(width)] if batch_norm else []
            layers += [nn.ReLU()] + ([nn.Dropout(dropout)] if dropout else []) + [nn.Linear(width, following)]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N,) logits from (N, H), the first layer's sums before its ReLU."""
        return torch.as_tensor(self.layers(hidden))[:, 0]


class Deep(nn.Module):
    """Embeddings and a feed-forward tower (Cheng et al. 2016, section 3.2), cut at its first layer."""

    def __init__(self, sizes: Sizes, dim: int, mlp: MLP, *, first: int) -> None:
        super().__init__()
        self.request = FieldEmbedding(sizes.request, dim)
        self.app = FieldEmbedding(sizes.app, dim)
        self.first = SplitLinear((self.request.columns, self.app.columns, pair_numbers(sizes)), first)
        self.mlp = mlp

    def request_part(self, side: Side) -> Tensor:
        """(B, H): W_r r + b."""
        return F.linear(self.request(side), self.first.request, self.first.bias)

    def app_part(self, side: Side) -> Tensor:
        """(B, H): W_a a."""
        return F.linear(self.app(side), self.first.app)

    def tower(self, hidden: Tensor, pair: Pair) -> Tensor:
        """(N,) logits from the two sides' sum (N, H) and the pair's values."""
        return torch.as_tensor(self.mlp(hidden + F.linear(pair.dense, self.first.pair)))
