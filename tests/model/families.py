"""Every family of the zoo in each of its forms, small enough for a test."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from model.batch import Sizes
from model.zoo import Net, build
from tests.model.nets import SIZES, scrambled

TOWER: Mapping[str, Any] = {"dim": 4, "hidden": (8, 6)}


@dataclass(frozen=True)
class Form:
    """One form of a family. halved, additive: what its net must say of itself, see `SplitNet`."""

    architecture: str
    params: Mapping[str, Any] = field(default_factory=dict)
    halved: frozenset[str] = frozenset({"deep"})
    additive: bool = True

    def net(self, sizes: Sizes = SIZES) -> Net:
        """A fresh net of random weights, the same each time."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return build(self.architecture, self.params, sizes)

    def settled(self, sizes: Sizes = SIZES) -> Net:
        """A net that is only to be asked, no number of which is zero by its start."""
        net = self.net(sizes).requires_grad_(False).eval()
        scrambled(net)
        return net


NONE = frozenset[str]()
NORMED: Mapping[str, Any] = {**TOWER, "batch_norm": True, "dropout": 0.3}

FORMS: Mapping[str, Form] = {
    "lr": Form("lr", halved=NONE),
    "fm": Form("fm", {"dim": 4}, halved=NONE),
    "ffm": Form("ffm", {"dim": 2}, halved=NONE, additive=False),
    "fnn": Form("fnn", NORMED),
    "pnn inner": Form("pnn", {**TOWER, "product": "inner"}, additive=False),
    "pnn outer": Form("pnn", {**NORMED, "product": "outer"}),
    "pnn both": Form("pnn", {**NORMED, "product": "both"}, additive=False),
    "wide_deep": Form("wide_deep", TOWER),
    "wide_deep normed": Form("wide_deep", NORMED),
    "wide": Form("wide_deep", {**TOWER, "deep": False}, halved=NONE),
    "deep": Form("wide_deep", {**NORMED, "wide": False}),
    "deepfm": Form("deepfm", TOWER),
    "deepfm of the paper": Form("deepfm", {**NORMED, "wide": False}),
    "deepfm separate": Form("deepfm", {**TOWER, "shared": False}),
    "dcn_v2": Form("dcn_v2", NORMED),
    "dcn_v2 of one layer": Form("dcn_v2", {**TOWER, "cross_layers": 1}),
    "deep_crossing": Form("deep_crossing", NORMED, halved=NONE),
    "deep_crossing of one unit": Form("deep_crossing", {"dim": 4, "hidden": (5,)}, halved=NONE),
}
