"""What the sharded nets are tried with, named without the extra installed."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from model.sharded.layout import Sharding
from model.train_config import TrainConfig
from model.zoo import ARCHITECTURES


@dataclass(frozen=True)
class Case:
    """One net, one recipe and one way to shard it."""

    architecture: str
    recipe: str
    sharding: Sharding
    dim: int = 4

    @property
    def name(self) -> str:
        return f"{self.architecture}-{self.recipe}-{self.sharding}-{self.dim}"


@dataclass(frozen=True)
class Found:
    """The largest differences; held: the rows of each table on this rank."""

    weights: float
    state: float
    scores: float
    held: list[int]


SMALL: Mapping[str, Any] = {"hidden": (16, 8), "batch_norm": False, "dropout": 0.0, "pretrain_epochs": 0}
CASES = (
    *(Case(name, "paper", "row") for name in ARCHITECTURES),
    *(Case("wide_deep", recipe, "table") for recipe in ("paper", "adam", "sgd")),
    *(Case("wide_deep", recipe, "row") for recipe in ("adam", "sgd")),
    Case("lr", "paper", "table"),
    Case("wide_deep", "paper", "auto"),
    Case("wide_deep", "paper", "auto", dim=16),  # wide enough for the products of a field's ids to be made once each
)


def config_of(case: Case, known: Mapping[str, Any]) -> TrainConfig:
    """Small, and without what each rank draws or measures on rows of its own."""
    params = {name: value for name, value in {**SMALL, "dim": case.dim}.items() if name in known}
    options = {"l2": 0.01} if case.recipe == "sgd" else {}  # which shrinks the rows that a batch names, and no others
    return TrainConfig(
        architecture=case.architecture,
        recipe=case.recipe,
        recipe_options=options,
        params=params,
        batch_size=50,
        precision="float32",
    )
