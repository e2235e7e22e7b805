"""What a training run changes step by step: a net, the position term beside it, and the optimizers of both."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adagrad, Adam, Optimizer

from model.batch import Batch
from model.layers import FieldEmbedding
from model.position import PositionBias
from model.row_optimizer import RowOptimizer
from model.transforms import Transform
from model.zoo import Net, forward

POSITION = "position."

SeenCounts = Mapping[str, Mapping[str, Tensor]]
"""For each FieldEmbedding of a net, by its path: how often training held each id of each of its fields."""


@dataclass(frozen=True)
class Learner:
    """A net with what learns beside it.

    position: None for a log that does not tell where its apps stood; dtype: what the dense layers multiply in, see
    `model.precision`. Parameters, tables and what the optimizers keep are float32 in any case.
    """

    net: Net
    position: PositionBias | None
    optimizers: list[Optimizer]
    dtype: torch.dtype = torch.float32

    @classmethod
    def of(
        cls,
        net: Net,
        position: PositionBias | None,
        *,
        optimizers: Callable[[nn.Module], list[Optimizer]],
        dtype: torch.dtype = torch.float32,
    ) -> "Learner":
        """A learner whose optimizers, made for a module, train the net and the position term."""
        return cls(net, position, optimizers(nn.ModuleList([net, *([position] if position else [])])), dtype)

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """All that is trained by name; the names of what is no part of the net begin with POSITION."""
        beside = self.position.named_parameters() if self.position else ()
        return {**dict(self.net.named_parameters()), **{POSITION + name: parameter for name, parameter in beside}}

    def state(self) -> dict[str, Tensor]:
        """A copy of what the next run needs beside the weights: `deep.first.bias/sum`, and `position.weight` itself."""
        names: dict[Tensor, str] = {parameter: name for name, parameter in self.parameters.items()}
        beside = {name: value.detach().clone() for name, value in self.parameters.items() if name.startswith(POSITION)}
        return beside | {
            f"{names[parameter]}/{kind}": value.clone()
            for optimizer in self.optimizers
            for parameter, kinds in optimizer.state.items()
            for kind, value in kinds.items()
            if isinstance(value, Tensor)
        }

    def step(self, batch: Batch) -> float:
        """One update on a batch; its mean loss before it."""
        for optimizer in self.optimizers:
            optimizer.zero_grad()
            for group in optimizer.param_groups:
                if "scale" in group:  # a batch's mean loss is to count as the sum over its rows, however many those are
                    group["scale"] = float(len(batch))
        with multiplying(self.dtype, batch.label.device):
            logits = forward(self.net, batch).float()
        if self.position is not None and batch.position is not None:
            logits = logits + self.position(batch.position)
        loss = F.binary_cross_entropy_with_logits(logits, batch.label, weight=batch.weight)
        loss.backward()  # type: ignore[no-untyped-call]  # torch ships it untyped
        for optimizer in self.optimizers:
            optimizer.step()
        return loss.item()

    def decay(self) -> None:
        """A tenth of the rate from here on."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] *= 0.1

    def settle_unseen(self, counts: SeenCounts) -> None:
        """Give ids that training never saw the mean of their field, see `FieldEmbedding.settle_unseen`."""
        for path, module in self.net.named_modules():
            if isinstance(module, FieldEmbedding):
                module.settle_unseen(counts[path])


def seen_counts(net: Net, transform: Transform) -> SeenCounts:
    """How often the training that fitted the transform held each id."""
    counts = {name: torch.from_numpy(vocabulary.counts) for name, vocabulary in transform.vocabularies.items()}
    return {path: counts for path, module in net.named_modules() if isinstance(module, FieldEmbedding)}


def multiplying(dtype: torch.dtype, device: torch.device) -> torch.autocast:
    """The dense layers' products in `dtype`, from rounded copies of float32 weights; float32 leaves all as it is."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=dtype is torch.bfloat16)


def initial_state(optimizer: Optimizer, group: Mapping[str, Any], parameter: nn.Parameter) -> dict[str, Tensor]:
    """What an optimizer keeps of a parameter before its first step, by name; empty for one that keeps nothing."""
    zeros = torch.zeros_like(parameter)
    match optimizer:
        case RowOptimizer():
            return optimizer.initial(parameter.detach(), group)
        case Adagrad():
            return {"step": torch.zeros(()), "sum": zeros + group["initial_accumulator_value"]}
        case Adam():
            return {"step": torch.zeros(()), "exp_avg": zeros, "exp_avg_sq": zeros.clone()}
        case SGD():
            return {"momentum_buffer": zeros} if group["momentum"] else {}
    return {}
