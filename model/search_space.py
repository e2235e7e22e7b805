"""What `appshelf tune` tries: ranges by recipe and by parameter of a network, over anything that was not given."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from model.batch import FieldSize, SideSizes, Sizes
from model.optim import parameter_groups
from model.zoo import ARCHITECTURES, build


@dataclass(frozen=True)
class Real:
    """A number from low to high; log: drawn by its logarithm."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Whole:
    """A whole number from low to high."""

    low: int
    high: int


@dataclass(frozen=True)
class Choice:
    """One of some values, each under the word that a study keeps it by."""

    values: Mapping[str, Any]

    @classmethod
    def of(cls, *values: bool | int | str) -> "Choice":
        """Values that are their own words."""
        return cls({str(value): value for value in values})


Axis = Real | Whole | Choice

SIDE = SideSizes((FieldSize("any", 2),), (), 1)
ANY = Sizes(SIDE, SIDE, 1, 2)
"""Of a log that has something of everything."""


def layers(*towers: tuple[int, ...]) -> Choice:
    """Widths of hidden layers, `128-64` for 128 and then 64."""
    return Choice({"-".join(map(str, widths)): list(widths) for widths in towers})


TRAINING: Mapping[str, Axis] = {"batch_size": Choice.of(256, 512, 1024, 2048, 4096)}

RECIPES: Mapping[str, Mapping[str, Axis]] = {
    "paper": {
        "alpha": Real(0.01, 0.5, log=True),
        "l1": Real(0.01, 50.0, log=True),
        "rate": Real(0.005, 0.2, log=True),
        "initial_accumulator": Real(1e-6, 0.1, log=True),
    },
    "adam": {
        "rate": Real(1e-4, 1e-2, log=True),
        "embedding_l2": Real(1e-8, 1e-2, log=True),
        "wide_l2": Real(1e-8, 1e-2, log=True),
    },
    "sgd": {
        "rate": Real(0.005, 0.5, log=True),
        "table_rate": Real(0.1, 50.0, log=True),
        "momentum": Real(0.0, 0.95),
        "l2": Real(1e-8, 1e-3, log=True),
    },
}

WIDE, TABLES, DENSE = "wide", "tables", "dense"
ACTS_ON: Mapping[str, Mapping[str, frozenset[str]]] = {
    "paper": {
        "alpha": frozenset({WIDE}),
        "l1": frozenset({WIDE}),
        "rate": frozenset({TABLES, DENSE}),
        "initial_accumulator": frozenset({TABLES, DENSE}),
    },
    "adam": {"embedding_l2": frozenset({TABLES}), "wide_l2": frozenset({WIDE})},
    "sgd": {"rate": frozenset({DENSE}), "momentum": frozenset({DENSE}), "table_rate": frozenset({WIDE, TABLES})},
}
"""The parts of a net that an option is for, of those that are not for all of it; see `model.optim`."""

PARAMS: Mapping[str, Axis] = {
    "dim": Choice.of(4, 8, 16, 32, 64),
    "hidden": layers((64, 32), (128, 64, 32), (256, 128, 64), (400, 400, 400), (512, 256, 128), (1024, 512, 256)),
    "batch_norm": Choice.of(False, True),
    "dropout": Real(0.0, 0.5),
}
"""Of every family that has a parameter of that name."""

FAMILIES: Mapping[str, Mapping[str, Axis]] = {
    "ffm": {"dim": Choice.of(2, 4, 8)},  # there are as many vectors a value as fields
    "fnn": {"pretrain_epochs": Choice.of(0, 3, 10)},
    "pnn": {"product": Choice.of("inner", "outer", "both")},
    "deepfm": {"shared": Choice.of(False, True), "wide": Choice.of(False, True)},
    "dcn_v2": {"cross_layers": Whole(1, 5)},
    "deep_crossing": {
        "hidden": layers((64, 32), (128, 64, 32), (256, 256, 128), (512, 256, 128), (512, 512, 256, 128, 64))
    },
}
"""A family's own, in place of what PARAMS says of the same name."""


def space_of(given: Mapping[str, Any]) -> dict[str, Axis]:
    """The axes over which a training is tuned, by place in its configuration (`params.dim`).

    given: what is settled: `architecture` and `recipe`, both in the zoo, and any options, which are not searched.
    """
    family, recipe = given["architecture"], given["recipe"]
    parts = parts_of(family, given.get("params") or {})
    known = ARCHITECTURES[family].params.model_fields if parts != {WIDE} else ()
    params = {**{name: axis for name, axis in PARAMS.items() if name in known}, **FAMILIES.get(family, {})}
    acts_on = ACTS_ON.get(recipe, {})
    options = {name: axis for name, axis in RECIPES.get(recipe, {}).items() if acts_on.get(name, parts) & parts}
    return {
        **{name: axis for name, axis in TRAINING.items() if name not in given},
        **_under("params", params, given),
        **_under("recipe_options", options, given),
    }


def parts_of(family: str, params: Mapping[str, Any]) -> frozenset[str]:
    """Which parts a net of these parameters has, or the one that it begins from: an option for others does nothing."""
    with torch.device("meta"):
        groups = parameter_groups(build(family, params, ANY))
    found = frozenset(part for part, group in zip((WIDE, TABLES, DENSE), groups, strict=True) if group)
    first = ARCHITECTURES[family].pretrained
    return found | parts_of(first, {}) if first else found


def _under(part: str, axes: Mapping[str, Axis], given: Mapping[str, Any]) -> dict[str, Axis]:
    settled = given.get(part) or {}
    return {f"{part}.{name}": axis for name, axis in axes.items() if name not in settled}


def config_of(given: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """The training options that a point of the space stands for, over what is given. values: by place."""
    config = {**given, **{part: dict(given.get(part) or {}) for part in ("params", "recipe_options")}}
    for place, value in values.items():
        part, _, name = place.rpartition(".")
        (config[part] if part else config)[name] = value
    return config
