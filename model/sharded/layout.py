"""How the tables of a net lie on the ranks."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from model.sharded.tables import Table

Sharding = Literal["auto", "row", "table"]


@dataclass(frozen=True)
class Layout:
    """How tables are to lie. sharding: auto leaves the choice to TorchRec's planner, table by table.

    memory_gib: what each rank has for tables and what the optimizer keeps beside them.
    """

    sharding: Sharding = "auto"
    memory_gib: float = 16.0


@dataclass(frozen=True)
class Shard:
    """The rows [first, first + len(weight)) of a table that this rank holds; every shard of it as (first, rows, rank).

    weight: (rows, K), none of them where the table lies elsewhere.
    """

    table: Table
    first: int
    weight: nn.Parameter
    everywhere: tuple[tuple[int, int, int], ...]
