"""Begin a training where an earlier one ended: weights and optimizer state, matched by value and not by row number.

"A warm-starting system which initializes a new model with the embeddings and the linear model weights from the
previous model" (Cheng et al. 2016, section 4.2). Layers say whose their rows and columns are (`model.blocks`), so this
works for any architecture made of them.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch.optim import Optimizer

from model.blocks import Axes, Block, Per, axes_of, total
from model.bundle import Bundle
from model.layers import MLP, FieldEmbedding, Wide
from model.learner import POSITION, Learner, SeenCounts, initial_state
from model.matching import NOWHERE, Match, Matcher
from model.row_optimizer import RowOptimizer
from model.stacked import Head
from model.transforms import Transform
from model.zoo import Net, build

Group = Mapping[str, Any]
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class WarmStart:
    """What a training begins from.

    parent: read with its optimizer, where that is to be carried; compact: drop values that the training split lacks.
    """

    parent: Bundle
    optimizer: Literal["carry", "reset"] = "carry"
    compact: bool = False

    def under(self, sampling_rate: float) -> "WarmStart":
        """The same start for a log of another sampling rate of negatives, see `Scorer.score`.

        A net's odds are 1/rate times too high, so its log odds move by ln(parent's rate / new rate).
        """
        shift = math.log(self.parent.manifest.sampling_rate / sampling_rate)
        bias = _output_bias(_skeleton(self.parent))
        if not shift or bias is None:
            return self
        weights = {**self.parent.weights, bias: self.parent.weights[bias] + shift}
        return replace(self, parent=replace(self.parent, weights=weights))


@dataclass(frozen=True)
class Transferred:
    """What a net took over from its parent (a version).

    rows_kept, rows_new: rows of values, over all tables, that are the parent's, and that are of values it did not know;
    fresh: parameters that begin anew; optimizer: what became of its state, "missing" where the parent has none;
    state_reset: parameters whose state begins anew though it was to be carried.
    """

    parent: str
    rows_kept: int
    rows_new: int
    fresh: tuple[str, ...]
    optimizer: Literal["carried", "reset", "missing"]
    state_reset: tuple[str, ...]


@dataclass(frozen=True)
class Origin:
    """One of the parent's parameters by name, and where along each described dimension of it a new one's rows lie."""

    name: str
    matches: Mapping[int, Match]

    @property
    def of_rows(self) -> "Origin":
        """The same for what is kept of whole rows, (R, 1)."""
        return Origin(self.name, {axis: match for axis, match in self.matches.items() if axis == 0})

    def put(self, into: Tensor, tensor: Tensor, *, stand_ins: bool) -> None:
        """Copy what the parent's `tensor` has of the same; stand_ins: and for a new value its field's OOV row."""
        here, there = [], []
        for axis, length in enumerate(into.shape):
            match = self.matches.get(axis, Match.whole(length))
            places = (match.source != NOWHERE if stand_ins else match.same).nonzero()[:, 0]
            shape = [-1 if other == axis else 1 for other in range(into.dim())]
            here.append(places.reshape(shape))
            there.append(match.source[places].reshape(shape))
        into[tuple(here)] = tensor[tuple(there)]


def transfer(start: WarmStart, learner: Learner, transform: Transform) -> tuple[Transferred, SeenCounts]:
    """Take over what the parent holds into a fresh learner of `transform`, in place.

    What was taken over, and how often training held each id, the parent's included where its rows were kept. Raises
    UnknownArchitecture for a parent whose architecture is no longer there.
    """
    moving = Transfer(start, learner, transform)
    return moving.run(), moving.seen()


class Transfer:
    """One transfer under way. origins: of each of the learner's tensors by name, what it continues."""

    def __init__(self, start: WarmStart, learner: Learner, transform: Transform) -> None:
        self.start, self.learner, self.transform = start, learner, transform
        parent = start.parent
        self.tensors = {**(parent.optimizer or {}), **parent.weights}
        self.axes, self.past_axes = axes_of(learner.net), axes_of(_skeleton(parent))
        self.matcher = Matcher(parent.transform, transform)
        beside = {name: p.detach() for name, p in learner.parameters.items() if name.startswith(POSITION)}
        self.targets: dict[str, Tensor] = {**learner.net.state_dict(), **beside}
        self.origins = {name: tuple(self._origins(name, tensor)) for name, tensor in self.targets.items()}

    @torch.no_grad()
    def run(self) -> Transferred:
        """Move the weights, then the optimizers' state."""
        for name, tensor in self.targets.items():
            self._zero_new_columns(name, tensor)
            for origin in self.origins[name]:
                origin.put(tensor, self.tensors[origin.name], stand_ins=True)
        taken = {name: self._take_state(name, optimizer, group) for name, optimizer, group in self._trained()}
        kept, rows = self._rows()
        carried = any(taken.values())
        missing = self.start.optimizer == "carry" and self.start.parent.optimizer is None
        return Transferred(
            parent=self.start.parent.manifest.version,
            rows_kept=kept,
            rows_new=rows - kept,
            fresh=tuple(name for name, found in self.origins.items() if not found),
            optimizer="carried" if carried else "missing" if missing else "reset",
            state_reset=tuple(name for name, whole in taken.items() if carried and not whole),
        )

    def seen(self) -> SeenCounts:
        """How often training held each id of each table, the parent's training included where its rows were kept."""
        return {
            path: {
                field.name: self._counts(field.name, carried=field.name in self._carried(path))
                for field in module.fields
            }
            for path, module in self.learner.net.named_modules()
            if isinstance(module, FieldEmbedding)
        }

    def _origins(self, name: str, tensor: Tensor) -> Iterator[Origin]:
        """The parent's parameters that this one continues: one of its name, or several that share a list with it."""
        mine = self.axes.get(name, {})
        for other, past in self.tensors.items():
            if other != name and not (mine and _stem(other) == _stem(name)):
                continue
            theirs = self.past_axes.get(other, {})
            if mine.keys() == theirs.keys() and _fits(tensor, past, mine):
                lengths = {axis: tensor.shape[axis] for axis in mine}
                found = {a: self.matcher.along(mine[a], theirs[a], length=lengths[a]) for a in mine}
                yield Origin(other, found)

    def _zero_new_columns(self, name: str, tensor: Tensor) -> None:
        """A field that a continued layer did not have takes no part in its sums yet, so the function stays the same."""
        axes, origins = self.axes.get(name, {}), self.origins[name]
        if not origins:
            return
        new = {axis: torch.stack([one.matches[axis].source == NOWHERE for one in origins]).all(0) for axis in axes}
        for axis, blocks in axes.items():
            if blocks and blocks[0].begins_at_zero:
                kept = [(place, tensor[place].clone()) for place in _for_each_other(axes, new)] if axis else []
                tensor.index_fill_(axis, new[axis].nonzero()[:, 0], 0.0)
                for place, values in kept:
                    tensor[place] = values

    def _trained(self) -> Iterator[tuple[str, Optimizer, Group]]:
        names = {parameter: name for name, parameter in self.learner.parameters.items()}
        for optimizer in self.learner.optimizers:
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    if parameter.numel():  # one without numbers has no gradient, and nothing is kept of it
                        yield names[parameter], optimizer, group

    def _take_state(self, name: str, optimizer: Optimizer, group: Group) -> bool:
        """Set an optimizer's state of one parameter; whether the parent's was taken."""
        parameter = self.learner.parameters[name]
        state = initial_state(optimizer, group, parameter)
        past = [self._past_state(origin, state, parameter.shape) for origin in self.origins[name]]
        carried = self.start.optimizer == "carry" and bool(past) and all(one is not None for one in past)
        for origin, found in zip(self.origins[name], past, strict=True):
            for kind, tensor in (found or {}).items() if carried else ():
                if tensor.shape == self.tensors[origin.name].shape:
                    origin.put(state[kind], tensor, stand_ins=False)
                elif tensor.dim():
                    origin.of_rows.put(state[kind], tensor, stand_ins=False)
                else:
                    state[kind] = torch.maximum(state[kind], tensor)
        if isinstance(optimizer, RowOptimizer):
            state = optimizer.reconciled(parameter, state, group)
        if state:
            optimizer.state[parameter] = state
        return carried

    def _past_state(self, origin: Origin, state: State, shape: torch.Size) -> State | None:
        """What the parent's optimizer kept of one of its parameters; None unless it is of the same kinds.

        state, shape: of the parameter that continues it.
        """
        prefix = f"{origin.name}/"
        found = {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}
        if found.keys() != state.keys():
            return None
        before = self.tensors[origin.name].shape  # AdaGrad keeps a number for each of theirs, or for each row
        alike = all((found[kind].shape == before) == (state[kind].shape == shape) for kind in state)
        return found if alike else None

    def _rows(self) -> tuple[int, int]:
        """Rows of values, over all tables: those that hold the parent's, and all."""
        kept = rows = 0
        for name, axes in self.axes.items():
            for axis, blocks in axes.items():
                if blocks and blocks[0].per is Per.VALUE:
                    rows += total(blocks)
                    kept += sum(int(origin.matches[axis].same.sum()) for origin in self.origins[name])
        return kept, rows

    def _carried(self, path: str) -> set[str]:
        """The fields whose embeddings in the layer at `path` are the parent's."""
        tables = {name: axes[0] for name, axes in self.axes.items() if name.startswith(f"{path}.tables.")}
        shared = set[str]()
        for name, blocks in tables.items():
            for origin in self.origins[name]:
                shared |= {block.owner for block in blocks} & {b.owner for b in self.past_axes[origin.name][0]}
        return shared & self.matcher.fields

    def _counts(self, field: str, *, carried: bool) -> Tensor:
        counts = torch.from_numpy(self.transform.vocabularies[field].counts)
        match = self.matcher.values(field)
        if carried or match is None:
            return counts
        past = torch.from_numpy(self.start.parent.transform.vocabularies[field].counts)
        return counts - torch.where(match.same, past[match.source], 0)


def _skeleton(bundle: Bundle) -> Net:
    """The bundle's net without any number in it."""
    with torch.device("meta"):
        return build(bundle.manifest.architecture, bundle.manifest.params, bundle.transform.sizes)


def _output_bias(net: Net) -> str | None:
    """The name of a parameter that is added to every logit as it is."""
    for path, module in net.named_modules():
        if isinstance(module, Wide | Head):
            return f"{path}.bias"
        if isinstance(module, MLP):
            return f"{path}.layers.{len(module.layers) - 1}.bias"
    return None


def _for_each_other(axes: Axes, new: Mapping[int, Tensor]) -> list[tuple[slice, slice]]:
    """Where a table holds what a new field has for another new one that comes after it by name.

    As the other way round begins at zero their product does too, and yet both learn, which two zeros never would.
    """
    if axes.keys() != {0, 1}:
        return []
    rows, columns = (
        [(block.owner, place) for block, place in _placed(axes[axis]) if new[axis][place].all()] for axis in (0, 1)
    )
    return [(here, there) for one, here in rows for other, there in columns if one < other]


def _placed(blocks: Sequence[Block]) -> Iterator[tuple[Block, slice]]:
    first = 0
    for block in blocks:
        yield block, slice(first, first + block.size)
        first += block.size


def _stem(name: str) -> str:
    """The list that a parameter stands in: `deep.app.tables.1` -> `deep.app.tables`."""
    return re.sub(r"\.\d+$", "", name)


def _fits(mine: Tensor, theirs: Tensor, axes: Axes) -> bool:
    """Whether two parameters agree in every dimension that belongs to no field."""
    return mine.dim() == theirs.dim() and all(
        ours == other
        for axis, (ours, other) in enumerate(zip(mine.shape, theirs.shape, strict=True))
        if axis not in axes
    )
