"""The layers in which fields meet, each cut into what a side knows alone and what is left for the pair.

A field has a vector f_i of width K: the one of its id, the mean of a bag's ids', or x_i v_i of a continuous value x_i.
"""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product

import torch
from torch import Tensor, nn

from model.batch import Pair, Side, SideSizes, Sizes
from model.blocks import Axes, Block, Per, pair_numbers, side_numbers, total
from model.layers import FieldEmbedding, Part, small
from model.tower import Columns


class Embedded(FieldEmbedding):
    """An embedding of one width for every field, whatever the schema says of it, since the vectors are multiplied.

    slots: whose each part of a vector is, where it has one for every other field; summed: whether all vectors are
    added up without weights, so that those of a new field begin at zero in a continued net.
    """

    def __init__(self, sizes: SideSizes, width: int, *, slots: Sequence[Block] = (), summed: bool = False) -> None:
        alike = [tuple(replace(field, dim=None) for field in fields) for fields in (sizes.ids, sizes.bags)]
        super().__init__(replace(sizes, ids=alike[0], bags=alike[1]), width)
        self.slots, self.summed = tuple(slots), summed

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        return {name: _vector_axes(axes[0], self.slots, self.summed) for name, axes in super().axes().items()}


class NumberVectors(nn.Module):
    """x_i v_i of every continuous value. forward: (B, D) -> (B, D, width). slots, summed: see `Embedded`."""

    def __init__(
        self, columns: Sequence[Block], width: int, *, slots: Sequence[Block] = (), summed: bool = False
    ) -> None:
        super().__init__()
        self.columns, self.slots, self.summed = tuple(columns), tuple(slots), summed
        self.vectors = nn.Parameter(small(total(columns), width))

    def axes(self) -> dict[str, Axes]:
        """See `Described`."""
        return {"vectors": _vector_axes(self.columns, self.slots, self.summed)}

    @property
    def flat(self) -> tuple[Block, ...]:
        """Whose the D * width values are where the vectors are laid side by side."""
        return tuple(Block(block.owner, self.vectors.shape[1], Per.EMBEDDING) for block in self.columns)

    def forward(self, values: Tensor) -> Tensor:
        """(B, D, width)."""
        return values[:, :, None] * self.vectors


class FieldVectors(nn.Module):
    """The vectors of one side's F fields. names: of the fields, in order: continuous, single-valued, multi-valued.

    `looked_up` gives (B, W): the continuous values as they are, then the embeddings, what a tower reads; forward makes
    (B, F, K) of it.
    """

    def __init__(self, sizes: SideSizes, width: int, *, slots: Sequence[Block] = (), summed: bool = False) -> None:
        super().__init__()
        self.embedding = Embedded(sizes, width, slots=slots, summed=summed)
        self.numbers = NumberVectors(side_numbers(sizes), width, slots=slots, summed=summed)
        self.columns = self.embedding.columns
        self.names = tuple(block.owner for block in self.columns)
        self.width, self.dense = width, sizes.dense

    @property
    def flat(self) -> tuple[Block, ...]:
        """Whose the F * K values are where the vectors are laid side by side."""
        return tuple(Block(name, self.width, Per.EMBEDDING) for name in self.names)

    def looked_up(self, side: Side) -> Tensor:
        """(B, W); `columns` say whose each is."""
        values: Tensor = self.embedding(side)
        return values

    def forward(self, values: Tensor) -> Tensor:
        """(B, F, K) from the (B, W) looked up."""
        numbers, embedded = values[:, : self.dense], values[:, self.dense :]
        vectors = embedded.reshape(len(values), len(self.names) - self.dense, self.width)
        return torch.cat([self.numbers(numbers), vectors], dim=1) if self.dense else vectors

    def of(self, side: Side) -> Tensor:
        """(B, F, K)."""
        return self(self.looked_up(side))  # type: ignore[no-any-return]  # a module's call is untyped


class FM(nn.Module):
    """All pairs of fields by the product of their vectors: sum over i < j of <f_i, f_j>.

    By lemma 3.1 of Rendle 2010 that is half of (sum f_i)^2 - sum f_i^2, so a side leaves its sum and its squares.
    """

    def __init__(self, sizes: Sizes, dim: int) -> None:
        super().__init__()
        self.pair = NumberVectors(pair_numbers(sizes), dim, summed=True)

    def part(self, vectors: Tensor) -> Part:
        """Of a side's (B, F, K): sum (B, K) and square (B,), to which each field adds its own."""
        return {"sum": vectors.sum(1), "square": vectors.square().sum((1, 2))}

    def forward(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,)."""
        total, square = request["sum"] + app["sum"], request["square"] + app["square"]
        if pair.dense.shape[1]:
            mine = self.part(self.pair(pair.dense))
            total, square = total + mine["sum"], square + mine["square"]
        return 0.5 * (total.square().sum(1) - square)


class FFM(nn.Module):
    """All pairs of fields by the product of the vectors that each has for the other's field: sum of <f_i,Fj, f_j,Fi>.

    (Juan et al. 2016, their equation of FFM.) A request's pairs with an app are one product of the two sides laid flat.
    """

    def __init__(self, sizes: Sizes, dim: int) -> None:
        super().__init__()
        blocks = (*_fields(sizes.request), *_fields(sizes.app), *pair_numbers(sizes))
        slots = [Block(block.owner, dim, Per.EMBEDDING) for block in blocks]
        self.request = FieldVectors(sizes.request, dim * len(slots), slots=slots)
        self.app = FieldVectors(sizes.app, dim * len(slots), slots=slots)
        self.pair = NumberVectors(pair_numbers(sizes), dim * len(slots), slots=slots)
        self.spans = (len(self.request.names), len(self.app.names), sizes.pair_dense)

    def request_part(self, side: Side) -> Part:
        """own (B,): the pairs within; across (B, Fr, Fa, K) and beside (B, Fr, P, K): what it has for the others."""
        mine, theirs, beside = self._towards(self.request.of(side))
        return {"own": _within(mine), "across": theirs, "beside": beside}

    def app_part(self, side: Side) -> Part:
        """own (B,); across (B, Fr, Fa, K) and beside (B, Fa, P, K)."""
        theirs, mine, beside = self._towards(self.app.of(side))
        return {"own": _within(mine), "across": theirs.transpose(1, 2).contiguous(), "beside": beside}

    def forward(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,)."""
        across = (request["across"] * app["across"]).sum((1, 2, 3))
        total: Tensor = request["own"] + app["own"] + across
        if pair.dense.shape[1]:
            to_request, to_app, mine = self._towards(self.pair(pair.dense))
            total = total + (to_request.transpose(1, 2) * request["beside"]).sum((1, 2, 3)) + _within(mine)
            total = total + (to_app.transpose(1, 2) * app["beside"]).sum((1, 2, 3))
        return total

    def _towards(self, vectors: Tensor) -> tuple[Tensor, ...]:
        """(B, F, W) cut by whom the vectors are for: the request's fields, the app's and the pair's."""
        slots = sum(self.spans)
        cut = vectors.reshape(*vectors.shape[:2], slots, vectors.shape[2] // max(slots, 1))
        return torch.split_with_sizes(cut, self.spans, dim=2)


class InnerProduct(nn.Module):
    """p_ij = <f_i, f_j> of all pairs of fields (Qu et al. 2016, the inner product layer); of its p the half i < j.

    names: of the request's fields, of the app's and of the pair's; columns: whose the products are that the request
    has within itself, the app, and those across.
    """

    def __init__(self, names: tuple[Sequence[str], Sequence[str], Sequence[str]]) -> None:
        super().__init__()
        request, app, mine = names
        across = [*product(request, app), *product(request, mine), *product(app, mine), *combinations(mine, 2)]
        owned = (combinations(request, 2), combinations(app, 2), across)
        within_request, within_app, between = (tuple(map(_product, pairs)) for pairs in owned)
        self.columns: Columns = (within_request, within_app, between)

    def within(self, vectors: Tensor) -> Tensor:
        """(B, F (F - 1) / 2): the products within a side of (B, F, K)."""
        first, second = torch.triu_indices(vectors.shape[1], vectors.shape[1], 1, device=vectors.device)
        return torch.bmm(vectors, vectors.transpose(1, 2))[:, first, second]

    def forward(self, request: Tensor, app: Tensor, mine: Tensor) -> Tensor:
        """(N, Fr Fa + (Fr + Fa) P + P (P - 1) / 2) of (1 or N, Fr, K), (N, Fa, K) and (N, P, K): those across."""
        across = torch.matmul(request, app.transpose(1, 2)).flatten(1)
        if not mine.shape[1]:
            return across
        beside = [torch.matmul(vectors, mine.transpose(1, 2)).flatten(1) for vectors in (request, app)]
        return torch.cat([across, *beside, self.within(mine)], dim=1)


class OuterProduct(nn.Module):
    """p = f f^T of the sum f of all fields' vectors, the sum of all their outer products (Qu et al. 2016, OPNN).

    p is symmetric, so its upper triangle holds all of it.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.columns = (Block("outer", dim * (dim + 1) // 2, Per.PLACE),)

    def forward(self, request: Tensor, app: Tensor, mine: Tensor) -> Tensor:
        """(N, K (K + 1) / 2) of the two sides' sums (1 or N, K) and (N, K), and of the pair's vectors (N, P, K)."""
        total = request + app + mine.sum(1) if mine.shape[1] else request + app
        first, second = torch.triu_indices(total.shape[1], total.shape[1], device=total.device)
        return total[:, first] * total[:, second]


class Products(nn.Module):
    """The inner products of a net's fields, the outer ones, or both. kind: which; names, columns: see those."""

    def __init__(self, names: tuple[Sequence[str], Sequence[str], Sequence[str]], dim: int, *, kind: str) -> None:
        super().__init__()
        self.inner = InnerProduct(names) if kind in ("inner", "both") else None
        self.outer = OuterProduct(dim) if kind in ("outer", "both") else None
        request, app, across = self.inner.columns if self.inner else ((), (), ())
        self.columns: Columns = (request, app, (*across, *(self.outer.columns if self.outer else ())))

    def part(self, vectors: Tensor) -> tuple[Tensor, Part]:
        """Of a side's (B, F, K): the products within it, (B, W), and what those across are made of."""
        sums = {"sum": vectors.sum(1)} if self.outer else {}
        if self.inner is None:
            return vectors.new_empty((len(vectors), 0)), sums
        return self.inner.within(vectors), sums | {"vectors": vectors}

    def forward(self, request: Part, app: Part, mine: Tensor) -> Tensor:
        """(N, W): the products across both sides and the pair's vectors (N, P, K)."""
        inner = [self.inner(request["vectors"], app["vectors"], mine)] if self.inner else []
        outer = [self.outer(request["sum"], app["sum"], mine)] if self.outer else []
        return torch.cat([*inner, *outer], dim=1)


def _within(vectors: Tensor) -> Tensor:
    """(B,): the products of all pairs i < j of (B, F, F, K), in which [i, j] is the vector of i for j."""
    return (vectors * vectors.transpose(1, 2)).sum(3).triu(1).sum((1, 2))


def _fields(sizes: SideSizes) -> tuple[Block, ...]:
    ids = (Block(field.name, field.size, Per.VALUE) for field in (*sizes.ids, *sizes.bags))
    return (*side_numbers(sizes), *ids)


def _vector_axes(rows: Sequence[Block], slots: tuple[Block, ...], summed: bool) -> Axes:
    own = tuple(replace(block, zero=summed) for block in rows)
    return {0: own, 1: slots} if slots else {0: own}


def _product(pair: tuple[str, str]) -> Block:
    return Block("*".join(sorted(pair)), 1, Per.PRODUCT)
