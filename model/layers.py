"""The layers the architectures are written with, each cut into a request's, an app's and a pair's part."""

from collections.abc import Mapping, Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from model.batch import Bag, FieldSize, Pair, Side, SideSizes, Sizes
from model.blocks import Axes, Block, Per, cross_rows, pair_numbers, side_numbers, total, value_rows
from model.dropout import Dropout, MaskPool
from model.lookup import looked_up, pooled, rows_of, summed, weighed
from model.projection import Columns, Placed, added, cut, multiplied, projected, worthwhile
from model.tower_learning import learned

Part = dict[str, Tensor]
"""What a side leaves for `combine`: tensors whose first dimension is the side's rows."""

INITIAL_STD = 0.01


def small(*shape: int) -> Tensor:
    """Normal numbers of INITIAL_STD; of a net that is only a skeleton none, since to draw those loads half of torch."""
    numbers = torch.empty(shape)
    return numbers if numbers.is_meta else numbers.normal_(std=INITIAL_STD)


def offsets_of(sizes: Sequence[FieldSize]) -> Tensor:
    """(F,) int64: where each field's rows begin when the fields lie in one table."""
    starts = [0, *accumulate(field.size for field in sizes)][: len(sizes)]
    return torch.tensor(starts, dtype=torch.int64, device="cpu")  # also in a net whose parameters are yet to come


class WideSide(nn.Module):
    """A weight per id and per continuous value of one side, added up. forward -> (B,).

    pooling: of the weights of a multi-valued field, see `pooled`.
    """

    def __init__(self, sizes: SideSizes, *, pooling: str = "sum") -> None:
        super().__init__()
        self.pooling = pooling
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
        total = weighed(side.dense, self.dense)
        if self.id_count:
            total = self._of_ids(side.ids + offsets[: self.id_count], total)
        for bag, offset in zip(side.bags, offsets[self.id_count :], strict=True):
            total = total + pooled(Bag(bag.values + offset, bag.offsets), self.table, mode=self.pooling)[:, 0]
        return total

    def _of_ids(self, ids: Tensor, total: Tensor) -> Tensor:
        """(B,): `total` and each row's weights at `ids` (B, F)."""
        if not torch.is_grad_enabled():
            return total + F.embedding(ids, self.table).sum((1, 2))
        rows = torch.arange(len(ids), device=ids.device).repeat_interleave(self.id_count)
        return summed(self.table, ids.flatten(), rows, into=total)


class Wide(nn.Module):
    """The generalised linear model over raw values and cross-product features (Cheng et al. 2016, section 3.1).

    crossed: False leaves the crosses out; pooling: of a multi-valued field's weights, see `pooled`.
    """

    def __init__(self, sizes: Sizes, *, crossed: bool = True, pooling: str = "sum") -> None:
        super().__init__()
        self.request = WideSide(sizes.request, pooling=pooling)
        self.app = WideSide(sizes.app, pooling=pooling)
        self.pair_dense = nn.Parameter(torch.zeros(sizes.pair_dense))
        self.crosses = nn.Parameter(torch.zeros(max(sizes.crosses, 1), 1)) if crossed else None
        self.bias = nn.Parameter(torch.zeros(1))
        self.rows, self.numbers = cross_rows(sizes), pair_numbers(sizes)

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        crossed: dict[str, Axes] = {} if self.crosses is None else {"crosses": {0: self.rows}}
        return crossed | {"pair_dense": {0: self.numbers}}

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
        own = weighed(pair.dense, self.pair_dense)
        return own + self._crossed(pair.crosses, pair.dense.shape[0]) + self.bias

    def _crossed(self, bags: Sequence[Bag], count: int) -> Tensor:
        total: Tensor = self.bias.new_zeros(count)
        if self.crosses is None or not bags:
            return total
        if torch.is_grad_enabled():  # all in one, so that their table has one gradient
            rows = [rows_of(bag) for bag in bags]
            return summed(self.crosses, torch.cat([bag.values for bag in bags]), torch.cat(rows), into=total)
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
        firsts = accumulate((dims[member] for member in placed), initial=sizes.dense)
        self.firsts = dict(zip(placed, firsts, strict=False))

    def axes(self) -> dict[str, Axes]:
        """See `Described`; `columns` are those of the output."""
        return {
            f"tables.{place}": {0: value_rows(self.fields[member] for member in group)}
            for place, group in enumerate(self.groups)
        }

    def forward(self, side: Side) -> Tensor:
        """(B, width)."""
        return torch.cat([side.dense, *self._embedded(side, frozenset())], dim=1)

    def through(self, side: Side, weight: Tensor, *, bias: Tensor | None = None) -> Tensor:
        """(B, H): W x + b of what forward gives; learning on a CPU by id where ids are few, see `model.projection`."""
        by_id = torch.is_grad_enabled() and not weight.is_cuda
        few = [self._few(place, len(side)) for place in range(len(self.groups))] if by_id else []
        left_out = {field.place: field for fields in few for field in fields}
        if not left_out:
            return F.linear(self(side), weight, bias)
        rest, *parts = cut(multiplied(weight), [[field.columns for field in fields] for fields in few])
        by_table = [one for one in zip(self.tables, parts, few, strict=True) if one[2]]
        first, *others = (
            projected(table, Columns(columns, None if place else bias), side.ids, fields)
            for place, (table, columns, fields) in enumerate(by_table)
        )
        values = torch.cat(self._embedded(side, frozenset(left_out)) or [side.dense[:, :0]], dim=1)
        return added(sum(others, start=first), side.dense, values, rest)

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

    def _embedded(self, side: Side, left_out: frozenset[int]) -> list[Tensor]:
        """What the fields but those left out give, in the order of `columns`."""
        parts = []
        for place, (group, table) in enumerate(zip(self.groups, self.tables, strict=True)):
            offsets = self.get_buffer(f"offsets_{place}")
            single = [at for at, member in enumerate(group) if member < self.id_count and member not in left_out]
            if single and len(single) == self.id_count:
                parts.append(looked_up(table, side.ids + offsets[: self.id_count]).flatten(1))
            elif single:
                ids = side.ids[:, [group[at] for at in single]]
                parts.append(looked_up(table, ids + offsets[single]).flatten(1))
            for member, offset in zip(group, offsets, strict=True):
                if member >= self.id_count:
                    bag = side.bags[member - self.id_count]
                    parts.append(pooled(Bag(bag.values + offset, bag.offsets), table, mode="mean"))
        return parts

    def _few(self, place: int, rows: int) -> list[Placed]:
        """The single-valued fields in the table at `place` whose products are to be made by id in `rows` rows."""
        table, offsets = self.tables[place], self.get_buffer(f"offsets_{place}").tolist()
        ends = [
            *offsets[1:],
            table.shape[0],
        ]  # and not the fields' sizes: sharded training cuts a table to a batch's ids
        sized = [
            (member, end - start, start) for member, start, end in zip(self.groups[place], offsets, ends, strict=True)
        ]
        return [
            Placed(member, start, size, range(self.firsts[member], self.firsts[member] + table.shape[1]))
            for member, size, start in sized
            if member < self.id_count and worthwhile(rows, size, table.shape[1])
        ]


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

    def with_pair(self, hidden: Tensor, values: Tensor) -> Tensor:
        """(N, H): `hidden`, the two sides' sum, and W_p p of the pair's values (N, P), where there are any."""
        return hidden + F.linear(values, self.pair) if self.pair.shape[1] else hidden


class ReLU(nn.ReLU):
    """ReLU that overwrites what it is given while it learns: sums, which nothing else reads."""

    def forward(self, values: Tensor) -> Tensor:
        """Values of the same shape."""
        return F.relu(values, inplace=self.training and torch.is_grad_enabled())


class MLP(nn.Module):
    """ReLU layers down to one logit over the sum that a split first layer left. forward: (N, H) -> (N,)."""

    def __init__(self, hidden: Sequence[int], *, batch_norm: bool, dropout: float) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        masks = MaskPool(dropout)
        for width, following in zip(hidden, [*hidden[1:], 1], strict=True):
            layers += [nn.BatchNorm1d(width)] if batch_norm else []
            layers += [ReLU()] + ([Dropout(dropout, masks)] if dropout else []) + [nn.Linear(width, following)]
        self.layers = nn.Sequential(*layers)

    def forward(self, hidden: Tensor) -> Tensor:
        """(N,) logits from (N, H), the first layer's sums before its ReLU; they are overwritten while it learns."""
        learning = self.training and torch.is_grad_enabled() and hidden.device.type == "cpu"
        return (learned(self.layers, hidden) if learning else torch.as_tensor(self.layers(hidden)))[:, 0]


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
        return through(self.request, side, self.first.request, bias=self.first.bias)

    def app_part(self, side: Side) -> Tensor:
        """(B, H): W_a a."""
        return through(self.app, side, self.first.app)

    def tower(self, hidden: Tensor, pair: Pair) -> Tensor:
        """(N,) logits from the two sides' sum (N, H) and the pair's values."""
        return torch.as_tensor(self.mlp(self.first.with_pair(hidden, pair.dense)))


def through(embedding: nn.Module, side: Side, weight: Tensor, *, bias: Tensor | None = None) -> Tensor:
    """(B, H): W x + b of what an embedding, or what stands in for one, gives for a side."""
    if isinstance(embedding, FieldEmbedding):
        return embedding.through(side, weight, bias=bias)
    return F.linear(embedding(side), weight, bias)
