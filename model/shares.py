"""What the fields of a request add to its part of a net and to its keys of the crosses."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from model.batch import Bag
from model.cross_plan import CrossPlan, KeyShare, RequestKeys, request_sided, two_sided
from model.layers import Part
from model.request_fields import Code, RequestField, side_of
from model.transforms import Transform
from model.zoo import Net

Floats = npt.NDArray[np.float32]
Codes = Mapping[RequestField, Code]


@dataclass(frozen=True)
class Share:
    """What some fields add.

    part: (W,) to the request part, its tensors laid end to end; keys: to those of the crosses with an app's fields;
    loose: to those of the crosses of own fields with others.
    """

    part: Floats
    keys: KeyShare
    loose: KeyShare


class Shares:
    """The shares of one net and its encoder.

    own: the fields whose share is computed in one. Where that is not all of them, the net is additive: each field adds
    its own share to the request part, and so does each cross of the request's fields.
    """

    def __init__(self, net: Net, transform: Transform, *, fields: Sequence[RequestField], own: frozenset[str]) -> None:
        self._net = net
        self._missing: Codes = {one: one.code({}) for one in fields}
        inner = request_sided(transform.crosses)
        self._keys = CrossPlan(transform.crosses, two_sided(transform.crosses))
        self._closed = CrossPlan(transform.crosses, [one for one in inner if own.issuperset(one.spec.fields)])
        self._loose = CrossPlan(transform.crosses, [one for one in inner if not own.issuperset(one.spec.fields)])
        nothing = self._part(self._missing)
        self._shapes = {name: tensor.shape for name, tensor in nothing.items()}
        self._sizes = [tensor.numel() for tensor in nothing.values()]
        self._nothing = _flat(nothing)

    def of_own(self, codes: Codes) -> Share:
        """The share of all own fields, and with it what a request adds of which nothing is known."""
        closed = self._closed.rows(self._closed.share(codes)) if len(self._closed) else None
        return self._share(_flat(self._part({**self._missing, **codes}, closed)), codes)

    def of_one(self, field: RequestField, code: Code) -> Share:
        """What one other field adds, beyond what it does while missing."""
        codes = {field: code}
        return self._share(_flat(self._part({**self._missing, **codes})) - self._nothing, codes)

    def of_crosses(self, rows: tuple[int, ...]) -> Floats:
        """(W,) what these rows of loose crosses add to the request part."""
        return _flat(self._part(self._missing, torch.tensor(rows))) - self._nothing

    def total(self, shares: Sequence[Share]) -> tuple[Floats, RequestKeys, tuple[int, ...]]:
        """The request part that the shares add up to, (W,), its keys, and its rows of the loose crosses."""
        part = shares[0].part.copy()
        for share in shares[1:]:
            part += share.part
        rows = self._loose.rows(KeyShare.total([one.loose for one in shares])).tolist() if len(self._loose) else ()
        return part, self._keys.keys(KeyShare.total([one.keys for one in shares])), tuple(rows)

    def parts(self, flat: Sequence[Floats]) -> Part:
        """The request part of R requests, a row each, from the (W,) of each."""
        pieces = torch.split_with_sizes(torch.from_numpy(np.stack(flat)), self._sizes, dim=1)
        shaped = zip(self._shapes.items(), pieces, strict=True)
        return {name: piece.reshape(len(flat), *shape[1:]) for (name, shape), piece in shaped}

    def _share(self, part: Floats, codes: Codes) -> Share:
        return Share(part, self._keys.share(codes), self._loose.share(codes))

    @torch.inference_mode()
    def _part(self, codes: Codes, rows: Tensor | None = None) -> Part:
        crosses = () if rows is None else (Bag(rows, torch.zeros(1, dtype=torch.int64)),)
        return self._net.request_part(side_of(codes, crosses))


def _flat(part: Part) -> Floats:
    flat: Floats = torch.cat([tensor.flatten() for tensor in part.values()]).numpy()
    return flat
