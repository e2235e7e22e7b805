"""Tables sharded over the ranks by TorchRec: its plan, its exchange of ids and rows, and a lookup of our own.

TorchRec's compute kernels train a table with FBGEMM's optimizers, of which none is FTRL-Proximal, or give a gradient as
large as the shard. `Rows` looks up with a row-sparse gradient, so every recipe's own optimizers train the shards, as
they train whole tables on one machine.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor
from torchrec.distributed.batched_embedding_kernel import BatchedDenseEmbedding
from torchrec.distributed.embedding import EmbeddingCollectionSharder, ShardedEmbeddingCollection
from torchrec.distributed.model_parallel import DistributedModelParallel
from torchrec.distributed.planner import EmbeddingShardingPlanner, Topology
from torchrec.distributed.planner.types import ParameterConstraints, PlannerError
from torchrec.distributed.types import ShardingPlan

from model.causes import first_line
from model.lookup import looked_up
from model.sharded.errors import TablesDoNotFit
from model.sharded.layout import Layout, Shard, Sharding
from model.sharded.tables import Table

TYPES: Mapping[Sharding, list[str]] = {
    "auto": ["row_wise", "table_wise"],
    "row": ["row_wise"],
    "table": ["table_wise"],
}


class Exchange(nn.Module):
    """The tables of a net, a collection for each width. forward: the asked rows of each, wherever they are."""

    def __init__(self, tables: Sequence[Table]) -> None:
        super().__init__()
        self.tables = tuple(tables)
        self._groups = {
            width: [place for place, table in enumerate(tables) if table.width == width]
            for width in sorted({table.width for table in tables})
        }
        self.collections = nn.ModuleList(self._collection(width, group) for width, group in self._groups.items())

    def _collection(self, width: int, group: Sequence[int]) -> EmbeddingCollection:
        configs = [
            EmbeddingConfig(
                name=key(place), embedding_dim=width, num_embeddings=self.tables[place].rows, feature_names=[key(place)]
            )
            for place in group
        ]
        return EmbeddingCollection(tables=configs, device=torch.device("meta"))

    def forward(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """By table, the (U, K) of the rows (U,) that are asked for. Every rank calls it, each with rows of its own."""
        found: dict[str, Tensor] = {}
        for collection, group in zip(self.collections, self._groups.values(), strict=True):
            asked = [rows[self.tables[place].name] for place in group]
            lengths = torch.tensor([len(part) for part in asked], dtype=torch.int32)
            keys = [key(place) for place in group]
            got = collection(KeyedJaggedTensor(keys=keys, values=torch.cat(asked), lengths=lengths))
            found |= {self.tables[place].name: got[key(place)].values() for place in group}
        return found


class Rows(nn.Module):
    """Looks up the shards of one group of tables, with a row-sparse gradient for each.

    weights: as TorchRec made them, one flat tensor; `parameters_by_table` are views of it.
    """

    def __init__(self, weights: Tensor, shards: Sequence[nn.Parameter]) -> None:
        super().__init__()
        self.weights, self.shards = weights, list(shards)

    def split_embedding_weights(self) -> list[Tensor]:
        """Of each table its rows."""
        return [shard.data for shard in self.shards]

    def forward(self, indices: Tensor, offsets: Tensor) -> Tensor:
        """(V, K): the rows that `indices` (V,) name; offsets: where each table's of each asking rank begin."""
        each = (len(offsets) - 1) // len(self.shards)
        ends = offsets[::each].tolist() if each else [0] * (len(self.shards) + 1)
        found = [
            looked_up(shard, indices[start:end])
            for shard, start, end in zip(self.shards, ends[:-1], ends[1:], strict=True)
        ]
        return torch.cat(found)


def key(place: int) -> str:
    """A table's name in TorchRec, whose names hold no dots."""
    return f"t{place}"


def sharded(module: nn.Module, exchange: Exchange, layout: Layout) -> tuple[nn.Module, list[Shard]]:
    """`module`, which contains `exchange`, with its tables sharded and all else data-parallel; this rank's shards.

    Collective. Raises TablesDoNotFit.
    """
    with _quiet():
        constraints = {
            key(place): ParameterConstraints(sharding_types=TYPES[layout.sharding])
            for place in range(len(exchange.tables))
        }
        ranks, memory = dist.get_world_size(), int(layout.memory_gib * 2**30)
        topology = Topology(world_size=ranks, compute_device="cpu", ddr_cap=memory)
        sharders = [EmbeddingCollectionSharder()]
        planner = EmbeddingShardingPlanner(topology=topology, constraints=constraints)
        try:
            plan = planner.collective_plan(module, sharders, dist.group.WORLD)
        except PlannerError as error:
            raise TablesDoNotFit(
                f"the tables do not fit into {ranks} ranks of {layout.memory_gib:g} GiB ({first_line(error)}); take "
                "more ranks, or give each more of --memory-gib"
            ) from error
        for parameters in plan.plan.values():
            for parameter in parameters.values():
                parameter.compute_kernel = "dense"  # replaced by `Rows` below
        parallel = DistributedModelParallel(module, device=torch.device("cpu"), plan=plan, sharders=sharders)
    held: dict[str, nn.Parameter] = {}
    for lookup in _lookups(parallel):
        names = [config.name for config in lookup.config.embedding_tables]
        views = [nn.Parameter(view.detach()) for view in lookup.split_embedding_weights()]
        lookup._emb_module = Rows(lookup.emb_module.weights, views)
        held |= dict(zip(names, views, strict=True))
    return parallel, list(_shards(exchange, plan, held))


def _lookups(module: nn.Module) -> list[BatchedDenseEmbedding]:
    """Where TorchRec looks up, a lookup for each group of tables that it treats alike."""
    collections = [one for one in module.modules() if isinstance(one, ShardedEmbeddingCollection)]
    grouped = [lookup for collection in collections for lookup in collection._lookups]
    return [one for lookup in grouped for one in lookup.modules() if isinstance(one, BatchedDenseEmbedding)]


@contextmanager
def _quiet() -> Iterator[None]:
    """TorchRec warns of what it is about to do away with, on every rank; this version of it is pinned."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _shards(exchange: Exchange, plan: ShardingPlan, held: Mapping[str, nn.Parameter]) -> Iterator[Shard]:
    placed = {name: spec for parameters in plan.plan.values() for name, spec in parameters.items()}
    for place, table in enumerate(exchange.tables):
        parts = placed[key(place)].sharding_spec.shards
        everywhere = tuple(
            (part.shard_offsets[0], part.shard_sizes[0], part.placement.rank()) for part in parts if part.shard_sizes[0]
        )
        first = next((first for first, _, rank in everywhere if rank == dist.get_rank()), 0)
        weight = held.get(key(place))
        weight = nn.Parameter(torch.zeros(0, table.width)) if weight is None else weight
        yield Shard(table, first, weight, everywhere)
