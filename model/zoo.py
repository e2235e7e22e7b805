"""The zoo: every architecture by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, cast

from pydantic import BaseModel, ValidationError
from torch import Tensor, nn

from model.architectures.wide_deep import WideDeep, WideDeepParams
from model.batch import Batch, Pair, Side, Sizes
from model.layers import Part


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
    """A family of networks: its parameters and how to build one."""

    params: type[BaseModel]
    build: Callable[[Sizes, Any], nn.Module]


ARCHITECTURES: Mapping[str, Architecture] = {"wide_deep": Architecture(WideDeepParams, WideDeep)}


def check_params(name: str, params: Mapping[str, Any]) -> BaseModel:
    """The architecture's own parameters from plain values. Raises UnknownArchitecture naming what is wrong."""
    if name not in ARCHITECTURES:
        raise UnknownArchitecture(f"no architecture {name!r}; there are {', '.join(sorted(ARCHITECTURES))}")
    try:
        return ARCHITECTURES[name].params.model_validate(dict(params))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "params"
        raise UnknownArchitecture(f"{name}: {place}: {first['msg']}") from error


def build(name: str, params: Mapping[str, Any], sizes: Sizes) -> Net:
    """A fresh net of the architecture `name`, its random weights from torch's generator."""
    checked = check_params(name, params)
    return cast(Net, ARCHITECTURES[name].build(sizes, checked))


def forward(net: SplitNet, batch: Batch) -> Tensor:
    """(B,) logits: combine(request_part, app_part, pair), row by row."""
    return net.combine(net.request_part(batch.request), net.app_part(batch.app), batch.pair)
