"""FTRL-Proximal, and the recipes: which optimizer trains which part of a net, by name."""

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Optimizer

from model.layers import FieldEmbedding, Wide
from model.row_adagrad import RowAdagrad
from model.row_adam import RowAdam
from model.row_optimizer import Moments, RowOptimizer
from model.row_sgd import RowSGD


class FTRLProximal(RowOptimizer):
    """FTRL-Proximal with L1 (McMahan et al. 2013, Algorithm 1), per coordinate, for dense and row-sparse gradients.

    Coordinates that a sparse gradient does not name are not touched. The paper sums the loss over examples while a
    batch's loss here is a mean, so gradients are multiplied by `scale`, the batch size: l1 then means the same at any
    batch size.
    """

    kept = ("z", "n")

    def __init__(self, params: Iterable[nn.Parameter], options: Mapping[str, float]) -> None:
        super().__init__(params, {"alpha": 0.1, "beta": 1.0, "l1": 0.0, "l2": 0.0, "scale": 1.0} | dict(options))

    def recurrence(
        self, weight: Tensor, moments: Moments, grad: Tensor, *, options: Mapping[str, Any]
    ) -> tuple[Tensor, Moments]:
        """sigma = (sqrt(n + g^2) - sqrt(n)) / alpha; z += g - sigma w; n += g^2.

        Then w = 0 where |z| <= l1, else -(z - sign(z) l1) / ((beta + sqrt(n)) / alpha + l2).
        """
        (z, n), g = moments, grad * options["scale"]
        grown = n + g * g
        z = z + g - (grown.sqrt() - n.sqrt()) / options["alpha"] * weight
        rate = (options["beta"] + grown.sqrt()) / options["alpha"] + options["l2"]
        rate.clamp_min_(torch.finfo(rate.dtype).tiny)  # without beta it is 0 until there was a gradient, and so is z
        return -(z - z.clamp(-options["l1"], options["l1"])) / rate, (z, grown)

    def initial(self, param: Tensor, options: Mapping[str, Any]) -> dict[str, Tensor]:
        """n = 0, and the z from which the recurrence gives the weight as it stands, so that no step forgets it."""
        return self.reconciled(param, super().initial(param, options), options)

    def reconciled(self, param: Tensor, state: Mapping[str, Tensor], options: Mapping[str, Any]) -> dict[str, Tensor]:
        """The state with z as it is where it gives the weight, elsewhere with the nearest z that does.

        They part where a weight was set from outside or the options are others, in a warm start. Solved for z, the
        recurrence is z = -w ((beta + sqrt(n)) / alpha + l2) - sign(w) l1.
        """
        z, l1 = state["z"], options["l1"]
        rate = (options["beta"] + state["n"].sqrt()) / options["alpha"] + options["l2"]
        given = -(z - z.clamp(-l1, l1)) / rate
        needed = torch.where(param == 0, z.clamp(-l1, l1), -param * rate - param.sign() * l1)
        return {**state, "z": torch.where(torch.isclose(given, param, rtol=1e-4, atol=1e-9), z, needed)}


class PaperRecipe(BaseModel):
    """FTRL-Proximal with L1 for the wide side and AdaGrad for the deep one (Cheng et al. 2016, section 3.3).

    row_wise: one accumulator for each row of a table instead of one for each of its numbers, see `RowAdagrad`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    net_params: ClassVar[Mapping[str, Any]] = {}
    decays: ClassVar[bool] = False

    alpha: float = Field(0.05, gt=0)
    beta: float = Field(1.0, ge=0)
    l1: float = Field(3.0, ge=0)
    l2: float = Field(0.0, ge=0)
    rate: float = Field(0.05, gt=0)
    initial_accumulator: float = Field(1e-4, ge=0)
    row_wise: bool = False

    def optimizers(self, net: nn.Module, batch_size: int) -> list[Optimizer]:
        """The optimizers of one training run."""
        wide, tables, dense = parameter_groups(net)
        ftrl = {"alpha": self.alpha, "beta": self.beta, "l1": self.l1, "l2": self.l2, "scale": float(batch_size)}
        rows = {"lr": self.rate, "initial": self.initial_accumulator, "row_wise": self.row_wise}
        built: list[Optimizer] = [FTRLProximal(wide, ftrl)] if wide else []
        built += [RowAdagrad(tables, rows)] if tables else []
        if dense:
            begin = self.initial_accumulator
            built.append(Adagrad(dense, self.rate, initial_accumulator_value=begin, fused=fusable(dense)))
        return built


class AdamRecipe(BaseModel):
    """Adam for all, with batch norm, dropout, L2 on the tables and a rate that decays when validation stalls."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    net_params: ClassVar[Mapping[str, Any]] = {"batch_norm": True, "dropout": 0.3}
    decays: ClassVar[bool] = True

    rate: float = Field(1e-3, gt=0)
    embedding_l2: float = Field(1e-5, ge=0)
    wide_l2: float = Field(1e-5, ge=0)

    def optimizers(self, net: nn.Module, batch_size: int) -> list[Optimizer]:
        """The optimizers of one training run."""
        wide, tables, dense = parameter_groups(net)
        built: list[Optimizer] = [Adam(dense, self.rate, fused=fusable(dense))] if dense else []
        sparse = [({"params": wide, "l2": self.wide_l2}), ({"params": tables, "l2": self.embedding_l2})]
        groups = [group for group in sparse if group["params"]]
        return built + ([RowAdam(groups, rate=self.rate)] if groups else [])


class SGDRecipe(BaseModel):
    """Stochastic gradient descent: with momentum for the dense layers, without for tables and the wide side.

    table_rate: a table's row moves with the share of a batch that names it, so its rate is higher than the others'.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    net_params: ClassVar[Mapping[str, Any]] = {"batch_norm": True, "dropout": 0.3}
    decays: ClassVar[bool] = True

    rate: float = Field(0.1, gt=0)
    table_rate: float = Field(2.0, gt=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    l2: float = Field(0.0, ge=0)

    def optimizers(self, net: nn.Module, batch_size: int) -> list[Optimizer]:
        """The optimizers of one training run."""
        wide, tables, dense = parameter_groups(net)
        built: list[Optimizer] = []
        if dense:
            built.append(SGD(dense, self.rate, momentum=self.momentum, weight_decay=self.l2, fused=fusable(dense)))
        sparse = [*wide, *tables]
        return built + ([RowSGD([{"params": sparse, "l2": self.l2}], rate=self.table_rate)] if sparse else [])


Recipe = PaperRecipe | AdamRecipe | SGDRecipe
RECIPES: Mapping[str, type[Recipe]] = {"paper": PaperRecipe, "adam": AdamRecipe, "sgd": SGDRecipe}


def fusable(params: Iterable[nn.Parameter]) -> bool:
    """Whether torch's fused optimizers take them: one pass over the memory instead of one for each operation."""
    return all(param.device.type in ("cpu", "cuda") and param.dtype is torch.float32 for param in params)


def parameter_groups(net: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """The parameters of the wide side, of the embedding tables, and all others."""
    wide = [p for module in net.modules() if isinstance(module, Wide) for p in module.parameters()]
    tables = [p for module in net.modules() if isinstance(module, FieldEmbedding) for p in module.parameters()]
    named = {id(p) for p in (*wide, *tables)}
    return wide, tables, [p for p in net.parameters() if id(p) not in named]
