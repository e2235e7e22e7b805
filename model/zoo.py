"""The zoo: every architecture by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from model.architectures.dcn_v2 import DCNv2, DCNv2Params
from model.architectures.deep_crossing import DeepCrossing, DeepCrossingParams
from model.architectures.deepfm import DeepFM, DeepFMParams
from model.architectures.ffm import FFMParams, FieldAwareFM
from model.architectures.fm import FactorizationMachine, FMParams
from model.architectures.fnn import FNN, FNNParams
from model.architectures.lr import LR, LRParams
from model.architectures.pnn import PNN, PNNParams
from model.architectures.wide_deep import WideDeep, WideDeepParams
from model.batch import Batch, Pair, Side, Sizes
from model.layers import Part

SHOWN = 60


class UnknownArchitecture(ValueError):
    """No architecture of that name, or parameters it does not take."""


class SplitNet(Protocol):
    """What every architecture is: three methods, the same in training and in serving.

    halved: the names of app parts that only feed an MLP, which serving may read as bfloat16 where it is to be fast.
    additive: whether each field of a request, and each cross of its own fields, adds its share to the request part
    whatever the others are, so that shares may be computed apart, kept and added up.
    """

    halved: frozenset[str]
    additive: bool

    def request_part(self, side: Side) -> Part:
        """Once per request."""

    def app_part(self, side: Side) -> Part:
        """Once per app and version."""

    def combine(self, request: Part, app: Part, pair: Pair) -> Tensor:
        """(N,) logits, per candidate."""


class Net(nn.Module, SplitNet):
    """A torch module with the three split methods: what every net is, whether or not it inherits from here."""


@dataclass(frozen=True)
class Architecture:
    """A family of networks: its parameters and how to build one.

    pretrained: the family that is trained first, whose embeddings it begins with; None for none.
    """

    params: type[BaseModel]
    build: Callable[[Sizes, Any], nn.Module]
    pretrained: str | None = None


ARCHITECTURES: Mapping[str, Architecture] = {
    "lr": Architecture(LRParams, LR),
    "fm": Architecture(FMParams, FactorizationMachine),
    "ffm": Architecture(FFMParams, FieldAwareFM),
    "fnn": Architecture(FNNParams, FNN, pretrained="fm"),
    "pnn": Architecture(PNNParams, PNN),
    "wide_deep": Architecture(WideDeepParams, WideDeep),
    "deepfm": Architecture(DeepFMParams, DeepFM),
    "dcn_v2": Architecture(DCNv2Params, DCNv2),
    "deep_crossing": Architecture(DeepCrossingParams, DeepCrossing),
}


def check_params(name: str, params: Mapping[str, Any]) -> BaseModel:
    """The architecture's own parameters from plain values. Raises UnknownArchitecture naming what is wrong."""
    if name not in ARCHITECTURES:
        raise UnknownArchitecture(f"no architecture {name!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    family = ARCHITECTURES[name].params
    try:
        return family.model_validate(dict(params))
    except ValidationError as error:
        there = ", ".join(family.model_fields) or "none"
        raise UnknownArchitecture(f"{name}: {first_wrong(error)}; its parameters: {there}") from error


def first_wrong(error: ValidationError) -> str:
    """The first of the options that were refused, what is wrong with it and what it was, in words."""
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"])) or "options"
    if first["type"] == "extra_forbidden":
        return f"{place}: there is no such option"
    was = repr(first["input"])
    return f"{place}: {first['msg']}, and not {was if len(was) <= SHOWN else f'{was[:SHOWN]}...'}"


def params_for(name: str, defaults: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """A recipe's defaults that the architecture has a parameter for, and over them what was given, known or not.

    Raises UnknownArchitecture for a name that is not in the zoo.
    """
    if name not in ARCHITECTURES:
        raise UnknownArchitecture(f"no architecture {name!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    known = ARCHITECTURES[name].params.model_fields
    return {**{key: value for key, value in defaults.items() if key in known}, **given}


def build(name: str, params: Mapping[str, Any], sizes: Sizes) -> Net:
    """A fresh net of the architecture `name`, its random weights from torch's generator."""
    checked = check_params(name, params)
    return cast(Net, ARCHITECTURES[name].build(sizes, checked))


def forward(net: SplitNet, batch: Batch) -> Tensor:
    """(B,) logits: combine(request_part, app_part, pair), row by row."""
    return net.combine(net.request_part(batch.request), net.app_part(batch.app), batch.pair)
